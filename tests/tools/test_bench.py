"""kvfs-bench and kvfs bench: rows as promised, and nothing left behind. The numbers are not judged."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

SMOLLM2_NUMBERS = 3 * 30 * 2 * 16 * 64  # of a block
KEYS = ["bench", "value", "unit", "limit", "ratio", "target", "met"]


@pytest.fixture
def bench(bin_dir):
    return bin_dir / "kvfs-bench"


@pytest.fixture
def disk(tmp_path_factory):
    """A directory that is empty and not mounted on when the benchmark has ended."""
    path = tmp_path_factory.mktemp("bench")
    yield path
    assert list(path.iterdir()) == []
    assert str(path) not in Path("/proc/self/mounts").read_text()


def test_rows_are_json_lines(bench, disk):
    command = [bench, "--quick", "--dir", disk, "--only", "stat_missing", "--only", "match_32k_1k"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["bench"] for row in rows] == ["match_32k_1k", "match_32k_1k_p99", "stat_missing"]
    for row in rows:
        assert list(row) == KEYS
        assert row["value"] > 0
        assert row["limit"] > 0
        assert row["met"] == (row["value"] <= row["target"])


def test_a_signal_leaves_nothing(bench, disk):
    process = subprocess.Popen([bench, "--dir", disk, "--only", "match_32k_1m"])
    deadline = time.monotonic() + 60
    while str(disk) not in Path("/proc/self/mounts").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 128 + signal.SIGINT


def test_rows_that_are_not_there(bench):
    done = subprocess.run([bench, "--only", "nothing"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no row nothing" in done.stderr


def test_real_kv_is_moved_and_said(bench, disk, tmp_path):
    kv = tmp_path / "kv"
    numbers = np.random.default_rng(1).standard_normal(2 * SMOLLM2_NUMBERS, dtype=np.float32)
    kv.write_bytes((numbers.view(np.uint32) >> 16).astype(np.uint16).tobytes())
    command = [bench, "--quick", "--dir", disk, "--data", kv]
    command += ["--only", "cpu_packed", "--only", "stat_missing"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["bench"]: row.get("data") for row in rows} == {
        "cpu_packed": "real",
        "cpu_packed_store": "real",
        "stat_missing": None,
    }


def test_numbers_that_do_not_pack_are_not_measured(bench, disk, tmp_path):
    kv = tmp_path / "kv"
    kv.write_bytes(np.random.default_rng(1).bytes(4 * SMOLLM2_NUMBERS))
    command = [bench, "--quick", "--dir", disk, "--data", kv, "--only", "cpu_packed"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    assert "do not pack" in done.stderr
    kv.write_bytes(b"not blocks")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert "not whole blocks of SmolLM2-135M" in done.stderr


def test_on_a_mount_for_people(on_mount, daemon):
    done = on_mount("bench", "--quick", "--only", "stat_missing", status=None)
    assert done.status in (0, 1)  # met or missed
    assert "stat_missing" in done.out
    rows = on_mount("bench", "--quick", "--only", "stat_missing", "--json", status=None).json
    assert rows["rows"][0]["bench"] == "stat_missing"
    assert not any(name.startswith("bench-") for name in os.listdir(daemon.mount))


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="there is a GPU")
def test_rows_of_a_gpu_where_there_is_none(on_mount, disk):
    options = ["--only", "gpu_load", "--encoding", "packed", "--quick", "--dir", disk]
    done = on_mount("bench", "--gpu", *options, status=6)
    assert "kvfs-bench: gpu_load: " in done.err
    assert "kvfs-bench did not come to its end" in done.err


def test_encodings_are_of_rows_of_a_gpu(on_mount):
    assert "--encoding requires --gpu" in on_mount("bench", "--encoding", "fp8", status=2).err
    unknown = on_mount("bench", "--gpu", "--encoding", "zip", status=2).err
    assert "use raw, packed, fp8 or int8" in unknown
