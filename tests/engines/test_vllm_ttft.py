"""tools/benchmarks/vllm_ttft.py on a CPU: rows as promised. Its times are not judged."""

import json
import os
import subprocess
import sys

import pytest
from engine_runs import HERE

PROGRAM = HERE.parent.parent / "tools/benchmarks/vllm_ttft.py"


@pytest.mark.parametrize("connector", ["none", "kvfs"])
def test_a_row_for_each_length(daemon, connector):
    command = [sys.executable, PROGRAM, "--connector", connector, "--path", daemon.mount]
    few = ["--shape", "tiny", "--tokens", "1024", "2048", "--rounds", "1"]
    options = {"dtype": "float32", "num_gpu_blocks_override": 64}
    done = subprocess.run(
        [*command, *few, "--options", json.dumps(options)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_WAIT_POLICY": "passive"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["bench"] for row in rows] == [f"vllm_ttft_{n}k_{connector}" for n in (1, 2)]
    for row, tokens in zip(rows, (1024, 2048), strict=True):
        assert row["kv_matters"]
        assert all(row[state] > 0 for state in ("cold", "own"))
        if connector == "none":
            assert "hit" not in row
            continue
        assert row["hit"] > 0
        assert row["cached"] == [tokens]
        assert row["equal_tokens"] == [16]
