"""Without passthrough, and without root: the same through read and write."""

import errno
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from conftest import run, store_prefix
from raw_client import Lease, Reservation, expect_errno

HERE = os.path.dirname(__file__)


@pytest.fixture
def daemon(make_daemon):
    return make_daemon(dram="32MiB", nvme=None, flags=["--passthrough", "off"])


def test_slabs_and_index_cannot_be_opened(ns):
    store_prefix(ns, 2)
    assert ns.hello()[1] == 0
    for path in (f"{ns.path}/.kvfs/index", f"{ns.path}/.kvfs/slabs/{ns.slabs()[0][0]}"):
        with expect_errno(errno.EOPNOTSUPP):
            os.open(path, os.O_RDONLY)


def test_store_by_pwrite_and_load_by_read(ns):
    prefix = store_prefix(ns, 8)
    with open(prefix.path, "rb") as file:
        content = file.read()
    header = int.from_bytes(content[:8], "little") + 8
    assert content[header : header + 8 * ns.block_bytes[0]] == b"".join(b[0] for b in prefix.blocks)
    with Lease(ns, prefix.key) as lease:
        assert len(lease.extents()[0]) == 8


def test_pwrite_in_pieces_over_block_and_group_borders(make_ns):
    groups = [dict(layers=2, kv_heads=2, head_dim=32), dict(layers=1, kv_heads=1, head_dim=64)]
    ns = make_ns({"model": "test/two", "dtype": "F32", "block_tokens": 16, "groups": groups})
    from conftest import make_blocks, make_tokens

    tokens, blocks = make_tokens(3), make_blocks(ns, 3)
    stream = b"".join(data for block in blocks for data in block)
    with Reservation(ns) as reservation:
        reservation.reserve(tokens)
        for at in range(0, len(stream), 10007):
            piece = stream[at : at + 10007]
            assert os.pwrite(reservation.fd, piece, at) == len(piece)
        with expect_errno(errno.EINVAL):
            os.pwrite(reservation.fd, b"x", len(stream))
        _, _, tip = reservation.commit(3)
        with expect_errno(errno.EINVAL):  # what is published never changes
            os.pwrite(reservation.fd, b"x", 0)
    with open(ns.file(tip), "rb") as file:
        content = file.read()
    header = int.from_bytes(content[:8], "little") + 8
    by_group = b"".join(b[0] for b in blocks) + b"".join(b[1] for b in blocks)
    assert content[header : header + len(stream)] == by_group


def fuse_for_everybody() -> bool:
    helper = shutil.which("fusermount3")
    return helper is not None and bool(os.stat(helper).st_mode & stat.S_ISUID) and bool(os.stat("/dev/fuse").st_mode & 0o006)


@pytest.mark.skipif(os.geteuid() != 0, reason="changes to another user, so root")
def test_without_root(bin_dir):
    if not fuse_for_everybody():
        pytest.skip("needs a setuid fusermount3, and a /dev/fuse that all may open")
    nobody = pwd.getpwnam("nobody")
    root = Path(tempfile.mkdtemp(prefix="kvfs-test.", dir="/var/tmp"))
    (root / "mount").mkdir()
    run("chown", "-R", f"{nobody.pw_uid}:{nobody.pw_gid}", root)
    user = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    log = open(root / "log", "wb")
    daemon = subprocess.Popen(
        [*user, bin_dir / "kvfsd", root / "mount", "--dram", "16MiB", "--nvme", f"{root}/disk:64MiB", "--run-dir",
         f"/dev/shm/{root.name}"],
        stderr=log,
    )
    script = f"""
import sys, os; sys.path.insert(0, {HERE!r})
from conftest import *
from raw_client import *
class D: mount = sys.argv[1]
ns = create_namespace(D, "a")
assert ns.hello()[1] == 0
prefix = store_prefix(ns, 4)
content = open(prefix.path, "rb").read()
header = int.from_bytes(content[:8], "little") + 8
assert content[header:header + 4 * ns.block_bytes[0]] == b"".join(b[0] for b in prefix.blocks)
os.setxattr(prefix.path, "user.kvfs.pinned", b"1")
print(os.getxattr(prefix.path, "user.kvfs.tokens").decode())
"""
    try:
        deadline = time.monotonic() + 20
        while subprocess.run([*user, "test", "-e", root / "mount/.kvfs/version"]).returncode != 0:
            assert daemon.poll() is None and time.monotonic() < deadline, (root / "log").read_text()
            time.sleep(0.05)
        assert run(*user, sys.executable, "-c", script, root / "mount").strip() == "64"
        with pytest.raises(PermissionError):  # root is not let in either
            os.stat(root / "mount/.kvfs/version")
        daemon.terminate()
        assert daemon.wait(20) == 0, (root / "log").read_text()
        assert not any(str(root) in line for line in Path("/proc/self/mounts").read_text().splitlines())
    finally:
        if daemon.poll() is None:
            daemon.kill()
            daemon.wait()
            subprocess.run(["umount", "-l", root / "mount"])
        shutil.rmtree(root, ignore_errors=True)
        shutil.rmtree(f"/dev/shm/{root.name}", ignore_errors=True)


