"""Without passthrough, and without root: the same through read and write."""

import errno
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from populate import run, store_prefix
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
    groups = [
        {"layers": 2, "kv_heads": 2, "head_dim": 32},
        {"layers": 1, "kv_heads": 1, "head_dim": 64},
    ]
    ns = make_ns({"model": "test/two", "dtype": "F32", "block_tokens": 16, "groups": groups})
    from populate import make_blocks, make_tokens

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


# A private mount namespace, with a /dev/fuse that everybody may open whatever the machine's is.
OPEN_FUSE = """
mount -t tmpfs none "$1" && mknod -m 666 "$1/fuse" c 10 229 && mount --bind "$1/fuse" /dev/fuse &&
shift && exec "$@"
"""

CLIENT = """
import os, sys
sys.path.insert(0, sys.argv[2])
from populate import create_namespace, store_prefix
class Daemon: mount = sys.argv[1]
ns = create_namespace(Daemon, "a")
assert ns.hello()[1] == 0
prefix = store_prefix(ns, 4)
content = open(prefix.path, "rb").read()
header = int.from_bytes(content[:8], "little") + 8
assert content[header : header + 4 * ns.block_bytes[0]] == b"".join(b[0] for b in prefix.blocks)
os.setxattr(prefix.path, "user.kvfs.pinned", b"1")
print(os.getxattr(prefix.path, "user.kvfs.tokens").decode())
"""


@pytest.fixture
def home():
    """A directory of nobody's."""
    nobody = pwd.getpwnam("nobody")
    root = Path(tempfile.mkdtemp(prefix="kvfs-test.", dir="/var/tmp"))
    for name in ("mount", "dev"):
        (root / name).mkdir()
    run("chown", "-R", f"{nobody.pw_uid}:{nobody.pw_gid}", root)
    yield (
        root,
        ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"],
    )
    shutil.rmtree(root, ignore_errors=True)
    shutil.rmtree(f"/dev/shm/{root.name}", ignore_errors=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="changes to another user, so root")
@pytest.mark.skipif(shutil.which("fusermount3") is None, reason="needs fusermount3")
def test_without_root(bin_dir, home):
    root, as_nobody = home
    mount, log = root / "mount", root / "log"
    options = [
        "--dram",
        "16MiB",
        "--nvme",
        f"{root}/disk:64MiB",
        "--run-dir",
        f"/dev/shm/{root.name}",
    ]
    enter = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        OPEN_FUSE,
        "sh",
        root / "dev",
    ]
    with log.open("wb") as out:
        daemon = subprocess.Popen(
            [*enter, *as_nobody, bin_dir / "kvfsd", mount, *options], stdout=out, stderr=out
        )
    inside = ["nsenter", "-t", daemon.pid, "-m", *as_nobody]
    try:
        deadline = time.monotonic() + 20
        while f"mounted on {mount}" not in log.read_text():
            assert daemon.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        assert run(*inside, sys.executable, "-c", CLIENT, mount, HERE).strip() == "64"
        # Root is not let in either.
        run("nsenter", "-t", daemon.pid, "-m", "cat", mount / ".kvfs/version", status=1)
        daemon.terminate()
        assert daemon.wait(20) == 0, log.read_text()
    finally:
        if daemon.poll() is None:
            daemon.kill()
            daemon.wait()
