"""The ABI of lib/format/ioctls.h, with what each call refuses."""

import errno
import os
import signal
import struct
import subprocess
import sys
import threading
import time

import pytest
from populate import GEOMETRY, make_blocks, make_tokens, store_prefix
from raw_client import (
    ABI_VERSION,
    COMMIT,
    EXTENTS,
    HELLO,
    MATCH,
    NOT_RESIDENT,
    PREFETCH,
    PRESENT,
    REPORT,
    RESERVE,
    ZERO_KEY,
    Lease,
    Reservation,
    command,
    expect_errno,
    hex_of,
    ioctl,
    key_of,
)


def test_hello_on_any_descriptor(daemon, ns, prefix):
    paths = [
        daemon.mount,
        ns.path,
        prefix.path,
        f"{ns.path}/.kvfs/index",
        f"{ns.path}/.kvfs/stats.json",
    ]
    answers = set()
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        answers.add(ioctl(fd, HELLO, struct.pack("<IIQ", ABI_VERSION, 0, 0)))
        with expect_errno(errno.EPROTO):
            ioctl(fd, HELLO, struct.pack("<IIQ", ABI_VERSION + 1, 0, 0))
        os.close(fd)
    assert len(answers) == 1
    version, passthrough, epoch = struct.unpack("<IIQ", answers.pop())
    assert (version, passthrough) == (ABI_VERSION, 1)
    assert epoch != 0


def test_store_match_and_load(ns):
    prefix = store_prefix(ns, 8)
    assert ns.load(prefix.key) == [b[0] for b in prefix.blocks]
    keys, at = [], hex_of(prefix.key)
    while at:
        keys.insert(0, key_of(at))
        at = ns.control(op="stat", key=at)["parent"]
    assert len(keys) == 8
    assert ns.match(keys) == 8
    assert ns.match(keys[:5]) == 5
    assert ns.match([*keys[:5], bytes(range(16))]) == 5
    assert ns.match([bytes(range(16))]) == 0
    assert ns.match([]) == 0


def test_going_on_behind_a_parent(ns):
    tokens, blocks = make_tokens(8), make_blocks(ns, 8)
    parent = ns.store(tokens[: 3 * 16], blocks[:3])
    tip = ns.store(tokens[3 * 16 :], blocks[3:], parent=parent)
    assert tip == ns.store(tokens, blocks)
    assert ns.load(tip) == [b[0] for b in blocks]
    with Reservation(ns) as reservation:
        assert {e.slab for e in reservation.reserve(tokens)} == {PRESENT}
        assert reservation.commit(8) == (0, 8, tip)


def test_extras_make_another_key(ns):
    tokens, blocks = make_tokens(2), make_blocks(ns, 2)
    plain = ns.store(tokens, blocks)
    with Reservation(ns) as reservation:
        reservation.reserve(tokens, extras=[(1, b"\1" * 16)])
        ns.write_blocks(reservation, blocks)
        _, _, tip = reservation.commit(2)
    assert tip != plain
    assert (
        ns.control(op="stat", key=hex_of(tip))["parent"]
        == ns.control(op="stat", key=hex_of(plain))["parent"]
    )


def test_uncommitted_is_invisible_and_freed(ns):
    before = ns.control(op="list")["prefixes"]
    with Reservation(ns) as reservation:
        reservation.reserve(make_tokens(4, seed=6))
        assert ns.control(op="list")["prefixes"] == before
    assert ns.control(op="list")["prefixes"] == before


def test_first_commit_wins(ns):
    tokens, blocks = make_tokens(3, seed=2), make_blocks(ns, 3, seed=2)
    with Reservation(ns) as first, Reservation(ns) as second:
        first.reserve(tokens)
        second.reserve(tokens)
        ns.write_blocks(first, blocks)
        ns.write_blocks(second, make_blocks(ns, 3, seed=99))
        assert first.commit(3)[:2] == (3, 0)
        committed, present, tip = second.commit(3)
        assert (committed, present) == (0, 3)
    assert ns.load(tip) == [b[0] for b in blocks]


def test_join(ns):
    tokens, blocks = make_tokens(3, seed=3), make_blocks(ns, 3, seed=3)
    with Reservation(ns) as first, Reservation(ns) as second:
        first.reserve(tokens)
        extents, count = second.join(first.id)
        assert (extents, count) == (first.extents, 3)
        second.extents = extents
        ns.write_blocks(second, blocks)
        tip = first.commit(3)[2]
    assert ns.load(tip) == [b[0] for b in blocks]
    with Reservation(ns) as third, expect_errno(errno.ENOENT):
        third.join(12345)


def test_reserve_refuses(ns, prefix):
    with Reservation(ns) as r:
        with expect_errno(errno.ENOENT):
            r.reserve(make_tokens(1), parent=bytes(range(16)))
        with expect_errno(errno.EINVAL):
            r.reserve([-1] * 16)
        with expect_errno(errno.EINVAL):
            r.reserve(make_tokens(1), extras=[(1, b"\1" * 16)])
        with expect_errno(errno.EINVAL):
            r.reserve([])
        with expect_errno(errno.EINVAL):  # the tokens do not fit into the message
            ioctl(r.fd, RESERVE, struct.pack("<16sIIIIQ", ZERO_KEY, 100, 0, 0, 0, 0) + bytes(64))
        with expect_errno(errno.EINVAL):  # nor does the answer
            ioctl(
                r.fd, RESERVE, struct.pack("<16sIIIIQ", ZERO_KEY, 1 << 31, 0, 0, 0, 0) + bytes(64)
            )
        with expect_errno(errno.EINVAL):
            r.commit(1)


def test_more_than_dram_holds_is_edquot(make_ns):
    ns = make_ns({**GEOMETRY, "layers": 256})  # 2 MiB a block; DRAM has 256 MiB
    with Reservation(ns) as r, expect_errno(errno.EDQUOT):
        r.reserve(make_tokens(200))


def test_extents_pages_and_refuses(ns):
    prefix = store_prefix(ns, 40)
    with Lease(ns, prefix.key) as lease:
        everything, blocks = lease.extents()
        assert (len(everything), blocks) == (40, 40)
        assert lease.extents(first=30, capacity=4)[0] == everything[30:34]
        assert lease.extents(first=40)[0] == []
        assert lease.extents(capacity=0) == ([], 40)
        for wrong in ({"first": 41}, {"group": 1}, {"flags": 2}):
            with expect_errno(errno.EINVAL):
                lease.extents(**wrong)
        with expect_errno(errno.EINVAL):  # a capacity that the message has no room for
            ioctl(lease.fd, EXTENTS, struct.pack("<8I", 0, 0, 1, 0, 0, 0, 3, 0) + bytes(16))


def test_wrong_descriptors_and_commands(ns, prefix):
    file = os.open(prefix.path, os.O_RDONLY)
    try:
        with expect_errno(errno.EBADF):
            ioctl(file, MATCH, struct.pack("<II", 0, 0))
        with expect_errno(errno.EBADF):
            ioctl(ns.dir_fd, EXTENTS, bytes(32))
        with expect_errno(errno.EBADF):
            ioctl(file, COMMIT, bytes(32))
        with expect_errno(errno.ENOTTY):
            ioctl(file, 99, bytes(8))
        with expect_errno(errno.EINVAL):
            ioctl(ns.dir_fd, MATCH, struct.pack("<II", 2, 0) + bytes(16))
        with expect_errno(errno.EINVAL):
            ioctl(ns.dir_fd, MATCH, bytes(4))
    finally:
        os.close(file)
    assert command(HELLO, 16) == 0xC0104B01


def test_slabs(ns, prefix):
    slabs = ns.slabs(capacity=1)
    assert slabs
    assert all(s[1] == 0 and s[3] == ns.slot_bytes[0] and s[5] == 0 for s in slabs)
    assert sorted(os.listdir(f"{ns.path}/.kvfs/slabs"), key=int) == [str(s[0]) for s in slabs]
    assert os.path.getsize(f"{ns.path}/.kvfs/slabs/{slabs[0][0]}") == slabs[0][2]


def test_promotion_from_nvme_parks_and_answers(ns):
    prefix = store_prefix(ns, 32, seed=11)
    ns.control(op="flush")
    ns.control(op="evict", tier="dram", bytes=1 << 30)
    assert ns.control(op="stat", key=hex_of(prefix.key))["tiers"]["dram"] == 0
    with Lease(ns, prefix.key) as lease:
        extents, _ = lease.extents(flags=0)
        assert [e.slab for e in extents] == [NOT_RESIDENT]
    assert ns.load(prefix.key) == [b[0] for b in prefix.blocks]
    ns.control(op="evict", tier="dram", bytes=1 << 30)
    with open(prefix.path, "rb") as file:
        content = file.read()
    header = int.from_bytes(content[:8], "little") + 8
    assert content[header : header + 32 * ns.block_bytes[0]] == b"".join(
        b[0] for b in prefix.blocks
    )


def test_prefetch(ns):
    prefix = store_prefix(ns, 16, seed=12)
    ns.control(op="flush")
    ns.control(op="evict", tier="dram", bytes=1 << 30)
    ioctl(ns.dir_fd, PREFETCH, prefix.key)
    deadline = time.monotonic() + 5
    while ns.control(op="stat", key=hex_of(prefix.key))["tiers"]["dram"] != 16:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with expect_errno(errno.ENOENT):
        ns.prefetch(bytes(range(16)))


def test_missed_blocks_are_counted(ns, prefix):
    with Lease(ns, prefix.key) as lease:
        lease.extents(missed=5)
    stats = ns.control(op="stat", key=hex_of(prefix.key))
    assert stats["hits"] == 1
    import json

    with open(f"{ns.path}/.kvfs/stats.json") as file:
        stats = json.load(file)
    assert (stats["hit_blocks"], stats["missed_blocks"]) == (8, 5)


def test_a_client_that_loads_counts_at_the_open_and_reports_later(ns, prefix):
    import json

    fd = os.open(prefix.path, os.O_RDONLY | os.O_NONBLOCK)
    ioctl(ns.dir_fd, REPORT, struct.pack("<QQQ", 1 << 20, 3, 1 << 21))
    os.close(fd)
    assert ns.control(op="stat", key=hex_of(prefix.key))["hits"] == 1
    with open(f"{ns.path}/.kvfs/stats.json") as file:
        stats = json.load(file)
    assert (stats["hit_blocks"], stats["missed_blocks"]) == (8, 3)
    assert stats["loaded_bytes"] == 3 << 20
    with expect_errno(errno.EINVAL):
        ioctl(ns.dir_fd, REPORT, bytes(8))


def test_a_killed_writer_leaves_nothing(ns):
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); from raw_client import *;"
        "ns = Namespace(sys.argv[2]); r = Reservation(ns); r.reserve(list(range(64)));"
        "lease = r.fd; print('ready', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, os.path.dirname(__file__), ns.path], stdout=subprocess.PIPE
    )
    assert child.stdout.readline() == b"ready\n"
    import json

    def reservations() -> int:
        with open(f"{ns.path}/.kvfs/stats.json") as file:
            return json.load(file)["reservations_open"]

    assert reservations() == 1
    child.send_signal(signal.SIGKILL)
    child.wait()
    deadline = time.monotonic() + 5
    while reservations() != 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("readers", [4])
def test_many_threads_read_one_descriptor(ns, readers):
    prefix = store_prefix(ns, 100, seed=13)
    with open(prefix.path, "rb") as file:
        content = file.read()
    fd = os.open(prefix.path, os.O_RDONLY | os.O_DIRECT)
    wrong = []

    def read(number: int) -> None:
        import mmap

        buffer = mmap.mmap(-1, 65536)
        for offset in range(number * 4096, len(content) - 65536, 65536):
            got = os.preadv(fd, [buffer], offset // 4096 * 4096)
            if buffer[:got] != content[offset : offset + got]:
                wrong.append(offset)

    threads = [threading.Thread(target=read, args=(n,)) for n in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(fd)
    assert wrong == []
