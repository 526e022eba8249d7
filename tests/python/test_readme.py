"""The example of the package's README, run as it stands."""

import re
from pathlib import Path

import kvfs
import numpy as np

README = Path(__file__).parents[2] / "lib/python/README.md"


def test_the_example_stores_and_then_loads(make_daemon):
    daemon = make_daemon(dram="128MiB", nvme=None)
    example, _with_transformers = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    example = example.replace('"/kv"', repr(str(daemon.mount)))
    random = np.random.default_rng(1)
    layers = [random.integers(0, 65536, (2, 8, 16, 8, 128), np.uint16) for _ in range(32)]
    computed = [layer.copy() for layer in layers]
    names = {"layers": layers, "tokens": list(range(64)), "table": [3, 0, 7, 5]}
    exec(example, dict(names))
    with kvfs.open(str(daemon.mount), "llama-3.1-8b") as namespace:
        assert namespace.match(names["tokens"]).blocks == 4

    for layer in layers:
        layer[:, names["table"]] = 0
    exec(example, dict(names))
    assert all(np.array_equal(a, b) for a, b in zip(layers, computed, strict=True))
