"""The NVMe tier's disk stops answering: what is in memory is served, nothing hangs."""

import errno
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from populate import create_namespace, run, store_prefix
from raw_client import ControlError, Lease, Namespace, expect_errno, hex_of
from support.disk import daemon_on_disk

# The bounds are generous: what they tell from is for ever.
BOUND = 20
FLAGS = [
    *("--nvme-timeout", "1s", "--read-timeout", "2s", "--flush-timeout", "2s"),
    *("--shutdown-timeout", "2s", "--slab", "2MiB"),
]


@pytest.fixture
def own(bin_dir, request):
    """A daemon on such a disk, with more flags as its parameter: (daemon, disk)."""
    flags = [*FLAGS, *getattr(request, "param", [])]
    with daemon_on_disk(bin_dir, dram="32MiB", nvme="256MiB", flags=flags) as both:
        yield both


def within_bound(begin: float) -> bool:
    return time.monotonic() - begin < BOUND


@pytest.fixture
def stuck(own):
    """(namespace, disk, prefix in DRAM, prefix on NVMe only); the disk is stopped."""
    daemon, disk = own
    ns = create_namespace(daemon, "a")
    cold = store_prefix(ns, 8, seed=1)
    ns.control(op="flush")
    ns.control(op="evict", tier="dram", bytes=1 << 30)
    warm = store_prefix(ns, 8, seed=2)
    ns.control(op="flush")
    assert ns.control(op="stat", key=hex_of(cold.key))["tiers"] == {"gpu": 0, "dram": 0, "nvme": 8}
    disk.stop()
    yield ns, disk, warm, cold
    disk.go_on()
    ns.close()


class Interrupted(Exception):
    pass


def interrupt(*_: object) -> None:
    raise Interrupted  # or Python would call again


def test_a_late_answer_does_not_replace_a_newer_one(stuck):
    ns, *_ = stuck
    store_prefix(ns, 8, seed=3)  # stays to be written
    before = signal.signal(signal.SIGALRM, interrupt)
    fd = os.open(f"{ns.path}/.kvfs/control", os.O_RDWR)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(Interrupted):
            os.write(fd, b'{"op": "flush", "timeout_s": 1}')
        os.write(fd, b'{"op": "list"}')
        assert b"prefixes" in os.read(fd, 65536)
        time.sleep(1.5)
        assert os.read(fd, 65536) == b""
    finally:
        os.close(fd)
        signal.signal(signal.SIGALRM, before)


def data_of(prefix) -> list[bytes]:
    return [block[0] for block in prefix.blocks]


def test_what_is_in_memory_is_served(stuck):
    ns, disk, warm, cold = stuck
    begin = time.monotonic()
    assert {f"{hex_of(p.key)}.safetensors" for p in (warm, cold)} == set(os.listdir(ns.path))
    assert os.stat(cold.path).st_size > 8 * ns.block_bytes[0]
    assert ns.match([warm.key]) == 1
    assert ns.match([cold.key]) == 1
    assert ns.load(warm.key) == data_of(warm)
    assert data_of(warm)[0] in Path(warm.path).read_bytes()
    new = store_prefix(ns, 8, seed=3)
    assert ns.load(new.key) == data_of(new)
    run("ls", "-l", ns.path)
    run("df", ns.path)
    assert within_bound(begin)
    disk.go_on()
    ns.control(op="flush", timeout_s=60)
    assert ns.control(op="stat", key=hex_of(new.key))["tiers"] == {"gpu": 0, "dram": 8, "nvme": 8}


def test_prefetches_of_one_prefix_do_not_pile_up(stuck):
    ns, _, _, cold = stuck
    for _ in range(20):
        ns.prefetch(cold.key)
    assert ns.control(op="stat", key=hex_of(cold.key))["leases"] == 1


def test_what_is_on_the_disk_ends_at_a_deadline(stuck):
    ns, disk, warm, cold = stuck
    begin = time.monotonic()
    with Lease(ns, cold.key) as lease, pytest.raises(OSError) as failed:
        lease.extents(timeout_ms=1500)
    assert failed.value.errno in (errno.ETIMEDOUT, errno.EIO)
    with open(cold.path, "rb", buffering=0) as file, pytest.raises(OSError) as failed:
        os.pread(file.fileno(), 4096, 1 << 16)  # past the header, which is on no disk
    assert failed.value.errno in (errno.ETIMEDOUT, errno.EIO)
    assert within_bound(begin)
    # A disk that was only slow has lost nothing.
    disk.go_on()
    deadline = time.monotonic() + 60
    while True:
        try:
            loaded = ns.load(cold.key)
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert loaded == data_of(cold)


def test_waiting_for_the_disk_holds_up_nobody_else(stuck):
    """More flushes, fsyncs, pins and removals than the daemon has threads for any of them."""
    ns, _, warm, cold = stuck
    new = [store_prefix(ns, 2, seed=10 + i) for i in range(40)]
    pins = [store_prefix(ns, 1, seed=100 + i) for i in range(20)]

    def flush(_: int) -> None:
        with pytest.raises(ControlError, match="timeout"):
            ns.control(op="flush", timeout_s=3)

    def fsync(prefix) -> None:
        file = os.open(prefix.path, os.O_RDONLY)
        with pytest.raises(OSError):
            os.fsync(file)
        os.close(file)

    def change(what, *arguments) -> None:
        # Done in memory; that it is durable may not be said.
        try:
            what(*arguments)
        except OSError as error:
            assert error.errno in (errno.ETIMEDOUT, errno.EIO)

    begin = time.monotonic()
    with ThreadPoolExecutor(70) as pool:
        waiting = [pool.submit(flush, i) for i in range(10)]
        waiting += [pool.submit(fsync, prefix) for prefix in new[:20]]
        waiting += [
            pool.submit(change, os.setxattr, prefix.path, "user.kvfs.pinned", b"1")
            for prefix in pins
        ]
        waiting += [pool.submit(change, os.unlink, prefix.path) for prefix in new[20:]]
        time.sleep(0.3)
        assert ns.load(warm.key) == data_of(warm)
        assert ns.match([warm.key]) == 1
        assert ns.control(op="stat", key=hex_of(warm.key))["tiers"]["dram"] == 8
        assert os.listdir(ns.path)
        for each in waiting:
            each.result()
    assert within_bound(begin)


def test_what_waits_at_the_end_is_answered(own):
    daemon, disk = own
    ns = create_namespace(daemon, "a")
    disk.stop()
    store_prefix(ns, 8, seed=1)
    fd = os.open(f"{ns.path}/.kvfs/control", os.O_RDWR)
    ns.close()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(os.write, fd, b'{"op": "flush", "timeout_s": 100}')
        time.sleep(0.3)
        daemon.process.terminate()
        with expect_errno(errno.ENODEV):  # before the connection goes: ECONNABORTED
            waiting.result()
    os.close(fd)
    daemon.process.wait(60)
    daemon.process = None


@pytest.mark.parametrize("own", [["--keep-dram", "false"]], indirect=True)
def test_what_was_not_written_stays_in_dram(own):
    daemon, disk = own
    ns = create_namespace(daemon, "a")
    disk.stop()
    dirty = store_prefix(ns, 8, seed=1)
    ns.close()
    daemon.process.terminate()
    time.sleep(4)  # past shutdown_timeout, and before the daemon ends by force
    disk.go_on()
    daemon.process.wait(60)
    daemon.process = None
    daemon.start()
    ns = Namespace(f"{daemon.mount}/a")
    assert ns.control(op="stat", key=hex_of(dirty.key))["tiers"]["dram"] == 8
    assert ns.load(dirty.key) == data_of(dirty)
    ns.close()


def test_sigterm_ends_and_says_what_was_not_written(own):
    daemon, disk = own
    ns = create_namespace(daemon, "a")
    safe = store_prefix(ns, 8, seed=1)
    ns.control(op="flush")
    disk.stop()
    dirty = store_prefix(ns, 8, seed=2)
    reader = threading.Thread(target=ns.load, args=(safe.key,))
    reader.start()
    reader.join()
    ns.close()
    begin = time.monotonic()
    daemon.process.terminate()
    assert daemon.process.wait(60) != 0
    daemon.process = None
    assert within_bound(begin)
    assert not os.path.ismount(daemon.mount)
    assert "not written" in daemon.log.read_text()
    disk.go_on()
    daemon.start()
    ns = Namespace(f"{daemon.mount}/a")
    assert ns.load(safe.key) == data_of(safe)
    assert ns.load(dirty.key) == data_of(dirty)
    ns.close()
