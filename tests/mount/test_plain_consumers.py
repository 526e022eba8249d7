"""Libraries that keep tensors in files, unmodified, on a plain directory: what one process saves
another loads, and a quota smaller than what they save costs them misses, not errors."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from support.plain_directories import settled, statistics, until

MIB = 1 << 20


@pytest.fixture(scope="module", params=["auto", "off"])
def daemon(make_daemon, request):
    return make_daemon(nvme="512MiB", flags=["--passthrough", request.param])


@pytest.fixture
def here(daemon, request):
    path = daemon.mount / f"cache-{abs(hash(request.node.name)) % 10**8}"
    path.mkdir()
    os.setxattr(path, "user.kvfs.quota", b"24MiB")
    return path


def tensor(seed: int) -> np.ndarray:
    """2 MiB, as a chunk of a cache."""
    return np.random.default_rng(seed).standard_normal((2, 16, 128, 128), dtype=np.float32)


def digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def in_another_process(script: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def use_as_a_cache(daemon, here, save, load, turns: int = 40) -> None:
    """Twice what fits, twice over: found or computed again."""
    found = 0
    for turn in [*range(turns), *reversed(range(turns))]:
        path = here / f"{turn}.cache"
        if path.exists():
            try:
                matches = digest(load(path)) == digest(tensor(turn))  # a mapping goes with it
            except FileNotFoundError:
                continue  # evicted between the two calls: a miss
            assert matches
            found += 1
        else:
            save(path, tensor(turn))
    settled(daemon)
    until(lambda: statistics(daemon, here.name)["bytes"] <= 24 * MIB)
    stats = statistics(daemon, here.name)
    assert found >= 5
    assert stats["evictions"]["files"] >= turns
    assert stats["evictions"]["corrupt"] == stats["evictions"]["incomplete"] == 0


def test_safetensors(daemon, here):
    from safetensors import numpy as files

    files.save_file({"kv": tensor(1), "tokens": np.arange(10)}, here / "one.safetensors")
    script = """
import sys, hashlib
from safetensors import safe_open
with safe_open(sys.argv[1], framework="numpy") as file:
    assert set(file.keys()) == {"kv", "tokens"}
    print(hashlib.sha256(file.get_tensor("kv").tobytes()).hexdigest())
"""
    assert in_another_process(script, here / "one.safetensors") == digest(tensor(1))
    use_as_a_cache(
        daemon,
        here,
        lambda path, values: files.save_file({"kv": values}, path),
        lambda path: files.load_file(path)["kv"],
    )


def test_numpy_and_its_mappings(daemon, here):
    np.save(here / "one.npy", tensor(2))
    mapped = np.lib.format.open_memmap(here / "mapped.npy", "w+", np.float32, (1 << 18,))
    mapped[:] = np.arange(1 << 18)
    mapped.flush()
    del mapped
    script = """
import sys, hashlib, numpy
values = numpy.load(sys.argv[1], mmap_mode="r")
print(hashlib.sha256(values.tobytes()).hexdigest())
"""
    assert in_another_process(script, here / "one.npy") == digest(tensor(2))
    assert in_another_process(script, here / "mapped.npy") == digest(
        np.arange(1 << 18, dtype=np.float32)
    )


@pytest.mark.parametrize("mmap", [False, True])
def test_torch(daemon, here, mmap):
    torch = pytest.importorskip("torch")
    torch.save({"kv": torch.from_numpy(tensor(3))}, here / "one.pt")
    script = f"""
import sys, hashlib, torch
values = torch.load(sys.argv[1], mmap={mmap})["kv"]
print(hashlib.sha256(values.numpy().tobytes()).hexdigest())
"""
    assert in_another_process(script, here / "one.pt") == digest(tensor(3))
    use_as_a_cache(
        daemon,
        here,
        lambda path, values: torch.save(torch.from_numpy(values), path),
        lambda path: torch.load(path, mmap=mmap).numpy(),
    )
