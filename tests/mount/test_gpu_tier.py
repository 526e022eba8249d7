"""The GPU tier as the mount shows it; host memory plays the GPU's part."""

import errno
import json
import os
import subprocess
import time

import pytest
from populate import store_prefix
from raw_client import Lease, expect_errno

FIRST_GPU_SLAB = 0x80000000
HANDLE_BYTES = 96


@pytest.fixture
def daemon(make_daemon):
    return make_daemon(dram="32MiB", nvme=None, flags=["--gpu", "cpu:8MiB", "--gpu-reserve", "0"])


def tier(daemon) -> dict:
    return json.loads((daemon.mount / ".kvfs/stats.json").read_text())["tiers"]["gpu"]


@pytest.fixture
def hot(daemon, ns):
    """A prefix of 8 blocks that was leased twice and has come into the tier."""
    prefix = store_prefix(ns, 8)
    for _ in range(2):
        os.close(os.open(prefix.path, os.O_RDONLY | os.O_NONBLOCK))
    deadline = time.monotonic() + 10
    while tier(daemon)["blocks"] < 8:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return prefix


def gpu_slabs(ns) -> list:
    return [slab for slab in ns.slabs() if slab[0] >= FIRST_GPU_SLAB]


def test_a_hot_prefix_shows_where_it_is(daemon, ns, hot, bin_dir):
    assert os.getxattr(hot.path, "user.kvfs.tiers") == b"gpu:8 dram:8"
    assert tier(daemon)["capacity"] == 8 << 20
    assert tier(daemon)["used"] == 8 * ns.slot_bytes[0]
    status = subprocess.run(
        [bin_dir / "kvfs", "status", "--mount", daemon.mount], capture_output=True, text=True
    )
    assert status.returncode == 0
    assert "gpu " in status.stdout
    metrics = (daemon.mount / ".kvfs/metrics").read_text()
    assert 'kvfs_tier_blocks{tier="gpu"} 8' in metrics


def test_a_slab_tells_how_to_map_it(daemon, ns, hot):
    (slab,) = gpu_slabs(ns)
    path = f"{ns.path}/.kvfs/slabs/{slab[0]}"
    assert os.stat(path).st_size == HANDLE_BYTES
    with open(path, "rb") as file:
        handle = file.read()
    assert len(handle) == HANDLE_BYTES
    assert int.from_bytes(handle[8:16], "little") == slab[2]
    for flags in (os.O_RDWR, os.O_WRONLY | os.O_TRUNC):
        with expect_errno(errno.EACCES):
            os.open(path, flags)


def test_extents_name_slots_in_dram_only(ns, hot):
    with Lease(ns, hot.key) as lease:
        extents, _ = lease.extents()
        assert len(extents) == 8
        assert all(extent.slab < FIRST_GPU_SLAB for extent in extents)


def test_a_prefix_that_is_removed_leaves_nothing_there(daemon, ns, hot):
    os.unlink(hot.path)
    assert tier(daemon)["used"] == 0


def opens_as_nobody(path: str) -> bool:
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        try:
            os.close(os.open(path, os.O_RDONLY))
        except PermissionError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs several users, so root")
def test_who_may_not_see_the_namespace_gets_no_handle(daemon, ns, hot):
    os.chmod(daemon.root, 0o755)
    (slab,) = gpu_slabs(ns)
    path = f"{ns.path}/.kvfs/slabs/{slab[0]}"
    assert opens_as_nobody(path)
    os.chmod(ns.path, 0o700)
    assert not opens_as_nobody(path)


def test_a_gpu_that_is_not_there_is_named(bin_dir, tmp_path):
    if os.path.exists("/dev/nvidia0"):
        pytest.skip("there is a GPU")
    (tmp_path / "mount").mkdir()
    argv = [bin_dir / "kvfsd", tmp_path / "mount", "--dram", "16MiB", "--gpu", "0:64MiB"]
    done = subprocess.run(
        [*argv, "--run-dir", tmp_path / "run"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 3
    for part in ("gpu", "CUDA", "leave --gpu out"):
        assert part in done.stderr
