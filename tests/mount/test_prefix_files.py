"""Prefix files through plain system calls."""

import errno
import mmap
import os
import stat
import time

import numpy as np
import pytest
from populate import run, store_prefix
from raw_client import Lease, expect_errno, hex_of
from safetensors import safe_open
from safetensors.numpy import load_file


def file_bytes(prefix) -> bytes:
    with open(prefix.path, "rb") as file:
        return file.read()


def test_is_a_safetensors_file(ns, prefix):
    with safe_open(prefix.path, "numpy") as file:
        meta = file.metadata()
        tokens = file.get_tensor("tokens")
        checksums = file.get_tensor("checksums")
    assert meta["format"] == "kvfs.prefix.v1"
    assert meta["key"] == hex_of(prefix.key)
    assert tokens.tolist() == prefix.tokens
    assert len(checksums) == 8
    content = file_bytes(prefix)
    header = int.from_bytes(content[:8], "little") + 8
    assert header % 4096 == 0
    assert content[header : header + 8 * ns.block_bytes[0]] == b"".join(b[0] for b in prefix.blocks)


def test_numpy_package_reads_f16(make_ns):
    from populate import GEOMETRY

    ns = make_ns({**GEOMETRY, "dtype": "F16"})
    prefix = store_prefix(ns)
    kv = load_file(prefix.path)["kv"]
    assert kv.shape == (8, 2, 2, 2, 16, 64)
    assert kv.tobytes() == b"".join(b[0] for b in prefix.blocks)


def test_every_shorter_prefix_opens_by_its_key(ns, prefix):
    longer = store_prefix(ns, 8, seed=0)
    assert longer.key == prefix.key
    parent = run("getfattr", "--only-values", "-n", "user.kvfs.parent", prefix.path)
    with open(f"{ns.path}/{parent}.safetensors", "rb") as file:
        assert len(file.read()) > 7 * ns.block_bytes[0]
    assert f"{parent}.safetensors" not in os.listdir(ns.path)


def test_pread_and_seek(prefix):
    content = file_bytes(prefix)
    fd = os.open(prefix.path, os.O_RDONLY)
    try:
        for offset, size in [
            (0, 1),
            (4095, 2),
            (5000, 70000),
            (len(content) - 5, 100),
            (len(content) + 7, 4),
        ]:
            assert os.pread(fd, size, offset) == content[offset : offset + size]
        assert os.lseek(fd, 0, os.SEEK_END) == len(content)
        assert os.lseek(fd, 10 * len(content), os.SEEK_SET) == 10 * len(content)
        assert os.read(fd, 10) == b""
    finally:
        os.close(fd)


def test_mmap(prefix):
    content = file_bytes(prefix)
    with (
        open(prefix.path, "rb") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapping,
    ):
        assert mapping[:] == content
    with (
        open(prefix.path, "rb") as file,
        mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE) as mapping,
    ):
        mapping[0] = mapping[0] ^ 0xFF
    assert file_bytes(prefix) == content


def test_o_direct(prefix):
    content = file_bytes(prefix)
    fd = os.open(prefix.path, os.O_RDONLY | os.O_DIRECT)
    try:
        buffer = mmap.mmap(-1, 1 << 20)
        got = os.preadv(fd, [buffer], 4096)
        assert buffer[:got] == content[4096 : 4096 + got]
        assert got == min(1 << 20, len(content) - 4096)
    finally:
        os.close(fd)


def test_sendfile(prefix, tmp_path):
    content = file_bytes(prefix)
    with open(prefix.path, "rb") as source, open(tmp_path / "out", "wb") as target:
        done = 0
        while done < len(content):
            done += os.sendfile(target.fileno(), source.fileno(), None, len(content))
    assert (tmp_path / "out").read_bytes() == content


def test_copy_file_range_goes_or_says_that_it_cannot(prefix, tmp_path):
    """The kernel does it within a file system only; programs then read and write."""
    with (
        open(prefix.path, "rb") as source,
        open(tmp_path / "out", "wb") as target,
        expect_errno(errno.EXDEV),
    ):
        os.copy_file_range(source.fileno(), target.fileno(), 4096)


@pytest.mark.parametrize(
    "mode", [os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND]
)
def test_opening_for_writing_is_refused(prefix, mode):
    with expect_errno(errno.EACCES):
        os.open(prefix.path, mode)


def test_truncating_and_linking_are_refused(ns, prefix):
    with expect_errno(errno.EPERM):
        os.truncate(prefix.path, 0)
    with expect_errno(errno.EPERM):
        os.link(prefix.path, f"{ns.path}/hard")
    with expect_errno(errno.EPERM):
        os.rename(prefix.path, f"{ns.path}/other")


def test_stat(ns, prefix):
    status = os.stat(prefix.path)
    assert stat.S_ISREG(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o444
    assert status.st_size == len(file_bytes(prefix))
    assert status.st_blocks == 8 * ns.slot_bytes[0] // 512
    assert abs(status.st_mtime - time.time()) < 60
    assert status.st_nlink == 1
    assert run("stat", "-c", "%F", prefix.path).strip() == "regular file"


def test_plain_reads_are_no_hits_but_loads_are(ns, prefix):
    def hits() -> int:
        return int(run("getfattr", "--only-values", "-n", "user.kvfs.hits", prefix.path))

    file_bytes(prefix)
    run("sha256sum", prefix.path)
    assert hits() == 0
    with Lease(ns, prefix.key) as lease:
        lease.extents()
        lease.extents()
    assert hits() == 1


def test_touch_refreshes_and_find_sees_it(ns, prefix):
    before = os.stat(prefix.path)
    time.sleep(1.1)
    run("touch", prefix.path)
    after = os.stat(prefix.path)
    assert after.st_atime > before.st_atime
    assert after.st_mtime == before.st_mtime
    assert run("find", ns.path, "-name", "*.safetensors", "-amin", "-5").split() == [prefix.path]
    assert run("find", ns.path, "-name", "*.safetensors", "-amin", "+5") == ""


def test_a_lease_outlives_rm(ns, prefix):
    content = file_bytes(prefix)
    with open(prefix.path, "rb") as file:
        os.unlink(prefix.path)
        assert not os.path.exists(prefix.path)
        assert file.read() == content
        assert os.fstat(file.fileno()).st_nlink == 0
    assert ns.control(op="list")["prefixes"] == []


def test_evicted_and_stored_anew_shows_new_bytes(ns):
    first = store_prefix(ns, 4, seed=1)
    old = file_bytes(first)
    os.unlink(first.path)
    other = [[bytes(reversed(data)) for data in block] for block in first.blocks]
    assert ns.store(first.tokens, other) == first.key
    new = file_bytes(first)
    assert len(new) == len(old)
    assert new != old
    header = int.from_bytes(new[:8], "little") + 8
    assert new[header : header + ns.block_bytes[0]] == other[0][0]


def test_kernel_forgets_names_that_were_evicted_behind_it(ns, prefix):
    os.stat(prefix.path)  # the kernel may keep it for an hour
    ns.control(op="evict", key=hex_of(prefix.key))
    deadline = time.monotonic() + 5
    while os.path.exists(prefix.path):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    store_prefix(ns)
    assert os.path.exists(prefix.path)  # and does not remember that it was missing


def test_big_prefix_in_large_reads(ns):
    prefix = store_prefix(ns, 600, seed=5)
    content = file_bytes(prefix)
    header = int.from_bytes(content[:8], "little") + 8
    kv = np.frombuffer(content, np.uint8, 600 * ns.block_bytes[0], header)
    assert kv.tobytes() == b"".join(b[0] for b in prefix.blocks)
    with open(prefix.path, "rb", buffering=0) as file:
        out = bytearray(len(content))
        view, done = memoryview(out), 0
        while got := file.readinto(view[done : done + (1 << 20)]):
            done += got
    assert bytes(out) == content
