"""A namespace of very many prefixes, listed while they come and go.

KVFS_MANY_ENTRIES=1000000 for the size that stores really have; it takes some minutes and 6 GiB.
"""

import contextlib
import json
import multiprocessing
import os
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from populate import create_namespace
from raw_client import COMMIT, RESERVE, ZERO_KEY, Namespace, hex_of, ioctl

KERNEL = tuple(int(part) for part in os.uname().release.split(".")[:2])
ENTRIES = int(os.environ.get("KVFS_MANY_ENTRIES", "30000"))
BLOCK = 4096
GEOMETRY = {
    "model": "test/many",
    "dtype": "BF16",
    "block_tokens": 16,
    "layers": 1,
    "kv_heads": 1,
    "head_dim": 64,
}  # 4 KiB a block


def store(path: str, numbers: range) -> list[str]:
    """A prefix of one block for each number; nothing is written into it. The files' names."""
    names = []
    for number in numbers:
        reservation = os.open(f"{path}/.kvfs/reserve", os.O_RDWR)
        head = struct.pack("<16sIIIIQ", ZERO_KEY, 1, 0, 0, 0, 0)
        tokens = struct.pack("<16i", number, *range(15))
        ioctl(reservation, RESERVE, head + tokens)
        answer = ioctl(reservation, COMMIT, struct.pack("<IIII16s", 1, 0, 0, 0, ZERO_KEY))
        names.append(f"{hex_of(answer[-16:])}.safetensors")
        os.close(reservation)
    return names


@pytest.fixture(scope="module")
def many(make_daemon) -> Iterator[tuple]:
    """(daemon, its namespace, the names of the prefixes)"""
    room = max(256, ENTRIES * BLOCK * 5 // 4 >> 20)
    daemon = make_daemon(dram=f"{room}MiB", nvme=None)
    ns = create_namespace(daemon, "many", GEOMETRY)
    begin = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        half = ENTRIES // 2
        parts = pool.starmap(store, [(ns.path, range(half)), (ns.path, range(half, ENTRIES))])
    print(f"\n{ENTRIES} prefixes stored in {time.monotonic() - begin:.0f} s")
    yield daemon, ns, set(parts[0]) | set(parts[1])
    ns.close()


def memory(daemon, what: str = "RssAnon") -> int:
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if what in line)


def inodes(daemon) -> int:
    return json.loads((daemon.mount / ".kvfs/stats.json").read_text())["fuse"]["inodes"]


def come_and_go(path: str, stop) -> None:
    number = 1 << 30
    while not stop.is_set():
        for name in store(path, range(number, number + 20)):
            os.unlink(f"{path}/{name}")
        number += 20


@contextlib.contextmanager
def others_come_and_go(ns: Namespace) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    process = context.Process(target=come_and_go, args=(ns.path, stop))
    process.start()
    try:
        yield
    finally:
        stop.set()
        process.join(30)
    assert process.exitcode == 0


def test_the_first_entries_come_at_once(many):
    _, ns, names = many
    begin = time.monotonic()
    with subprocess.Popen(["ls", "-f", ns.path], stdout=subprocess.PIPE, text=True) as listing:
        first = [next(listing.stdout).strip() for _ in range(5)]
        took = time.monotonic() - begin
        listing.stdout.close()
        listing.kill()
    print(f"\nls -f | head -5: {took * 1e3:.1f} ms")
    assert set(first) - {".", ".."} <= names
    with os.scandir(ns.path) as entries:  # one page
        begin = time.monotonic()
        next(entries)
        took = time.monotonic() - begin
    assert took < 1


def test_a_listing_is_whole_while_entries_come_and_go(many):
    _, ns, names = many
    with others_come_and_go(ns):
        begin = time.monotonic()
        found = subprocess.run(
            ["find", ns.path, "-type", "f", "-printf", "%f\\n"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        print(f"\nfind: {time.monotonic() - begin:.2f} s")
    counted = Counter(found)
    assert names <= counted.keys()
    assert all(count == 1 for count in counted.values())
    # What came and went may be there or not; there is little of it at any time.
    assert len(found) - len(names) < 1000 + ENTRIES // 10
    assert len(os.listdir(ns.path)) == ENTRIES


def test_a_listing_holds_up_nobody(many):
    _, ns, names = many
    some = f"{ns.path}/{next(iter(names))}"
    with subprocess.Popen(["find", ns.path, "-type", "f"], stdout=subprocess.DEVNULL) as listing:
        times = []
        while listing.poll() is None:
            begin = time.perf_counter()
            fd = os.open(some, os.O_RDONLY)  # takes a lease
            os.close(fd)
            times.append(time.perf_counter() - begin)
    assert listing.returncode == 0
    if times:
        times.sort()
        print(
            f"\nopen beside find: p50 {times[len(times) // 2] * 1e6:.0f} us, "
            f"most {times[-1] * 1e3:.1f} ms"
        )
        assert times[-1] < 2


def test_memory_is_bounded(many):
    daemon, ns, _ = many
    before = memory(daemon)
    subprocess.run(["ls", "-f", ns.path], stdout=subprocess.DEVNULL, check=True)
    listed = memory(daemon)
    assert listed - before < 16 << 20, "a listing alone remembers nothing"
    # Attributes of all: the kernel knows each inode until it needs the memory.
    begin = time.monotonic()
    subprocess.run(["find", ns.path, "-size", "+1000G"], check=True)
    print(f"\nfind -size: {time.monotonic() - begin:.1f} s")
    known = memory(daemon)
    print(f"RssAnon {before >> 20} MiB, listed {listed >> 20} MiB, all known {known >> 20} MiB")
    assert known - listed < (16 << 20) + 600 * ENTRIES
    assert ns.control(op="evict", all=True)["blocks"] == ENTRIES
    assert os.listdir(ns.path) == []
    if KERNEL >= (6, 18):  # which can be told to forget names; others do when they need the memory
        deadline = time.monotonic() + 60
        while inodes(daemon) > 100:
            assert time.monotonic() < deadline, inodes(daemon)
            time.sleep(0.1)
