"""The namespace directory's owner, group and mode guard everything below it."""

import errno
import os
import subprocess
import sys

import pytest
from populate import run, store_prefix
from raw_client import expect_errno, hex_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs several users, so root")

NOBODY = 65534
OWNER = 12345
HERE = os.path.dirname(__file__)


def as_user(uid: int, script: str, *args: str, status: int = 0) -> str:
    code = f"import sys, os, mmap, fcntl; sys.path.insert(0, {HERE!r})\n{script}"
    return run(
        "setpriv",
        f"--reuid={uid}",
        f"--regid={uid}",
        "--clear-groups",
        sys.executable,
        "-c",
        code,
        *args,
        status=status,
    )


@pytest.fixture(autouse=True)
def way_in(daemon):
    """Others get as far as the mount: what stops them there is the mount's own."""
    os.chmod(daemon.root, 0o755)


@pytest.fixture
def private(make_ns):
    ns = make_ns(uid=OWNER, gid=OWNER, mode=0o700)
    return ns, store_prefix(ns, 4)


def test_another_user_sees_and_maps_nothing(private):
    ns, prefix = private
    paths = [
        ns.path,
        prefix.path,
        f"{ns.path}/.kvfs/index",
        f"{ns.path}/.kvfs/slabs/{ns.slabs()[0][0]}",
        f"{ns.path}/.kvfs/control",
        f"{ns.path}/.kvfs/reserve",
        f"{ns.path}/.kvfs/geometry.json",
    ]
    as_user(
        NOBODY,
        """
for path in sys.argv[1:]:
    try:
        os.open(path, os.O_RDONLY)
    except PermissionError:
        continue
    sys.exit(f"{path} was opened")
for call in (lambda: os.listdir(sys.argv[1]), lambda: os.stat(sys.argv[2])):
    try:
        call()
    except PermissionError:
        continue
    sys.exit("something was seen")
""",
        *paths,
    )


def test_the_owner_may(private):
    ns, prefix = private
    status = os.stat(prefix.path)
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (OWNER, OWNER, 0o400)
    as_user(
        OWNER,
        """
from raw_client import *
ns = Namespace(sys.argv[1])
assert len(ns.load(key_of(sys.argv[2]))) == 4
r = Reservation(ns)
r.reserve([5] * 16)
ns.write_blocks(r, [[b"x" * ns.block_bytes[0]]])
r.commit(1)
ns.control(op="pin", key=sys.argv[2])
os.unlink(next(e.path for e in os.scandir(ns.path) if sys.argv[2] not in e.name))
""",
        ns.path,
        hex_of(prefix.key),
    )


def test_readers_may_load_but_not_write(make_ns):
    ns = make_ns(uid=OWNER, gid=OWNER, mode=0o755)
    prefix = store_prefix(ns, 4)
    slab = f"{ns.path}/.kvfs/slabs/{ns.slabs()[0][0]}"
    as_user(
        NOBODY,
        """
path, prefix, slab = sys.argv[1:]
fd = os.open(slab, os.O_RDONLY)
mmap.mmap(fd, 4096, prot=mmap.PROT_READ)
try:
    mmap.mmap(fd, 4096)
    sys.exit("mapped for writing")
except PermissionError:
    pass
control, reserve, index = (f"{path}/.kvfs/{name}" for name in ("control", "reserve", "index"))
writes = [(file, os.O_RDWR) for file in (slab, reserve, control, index)]
for path_, mode in (*writes, (path + "/new", os.O_WRONLY | os.O_CREAT)):
    try:
        os.open(path_, mode)
    except PermissionError:
        continue
    sys.exit(f"{path_} was opened for writing")
for call in (
    lambda: os.unlink(prefix),
    lambda: os.symlink(os.path.basename(prefix), path + "/n"),
    lambda: os.chmod(path, 0o777),
    lambda: os.utime(prefix),
    lambda: os.setxattr(prefix, "user.kvfs.pinned", b"1"),
):
    try:
        call()
    except PermissionError:
        continue
    sys.exit("something was changed")
open(prefix, "rb").read()
open(path + "/.kvfs/index", "rb").read(4096)
""",
        ns.path,
        prefix.path,
        slab,
    )


def test_root_does_not_write_the_index_either(ns, prefix):
    for mode in (os.O_WRONLY, os.O_RDWR):
        with expect_errno(errno.EACCES):
            os.open(f"{ns.path}/.kvfs/index", mode)


def test_mapping_cannot_be_made_writable(ns, prefix):
    script = """
import ctypes
fd = os.open(sys.argv[1], os.O_RDONLY)
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
at = libc.mmap(None, ctypes.c_size_t(4096), 1, 1, fd, ctypes.c_long(0))
assert at not in (None, ctypes.c_void_p(-1).value)
assert libc.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(4096), 3) != 0
"""
    for path in (f"{ns.path}/.kvfs/index", f"{ns.path}/.kvfs/slabs/{ns.slabs()[0][0]}"):
        subprocess.run([sys.executable, "-c", "import os, sys" + script, path], check=True)


def test_chmod_and_chown_of_the_directory_last(daemon, ns, prefix):
    run("chown", f"{OWNER}:{OWNER}", ns.path)
    run("chmod", "750", ns.path)
    status = os.stat(prefix.path)
    assert (status.st_uid, status.st_mode & 0o777) == (OWNER, 0o440)
    ns.close()
    daemon.stop()
    daemon.start()
    status = os.stat(ns.path)
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (OWNER, OWNER, 0o750)
    ns.__init__(ns.path)


def test_chmod_of_a_prefix(ns, prefix):
    with expect_errno(errno.EPERM):
        os.chmod(prefix.path, 0o400)
    with expect_errno(errno.EPERM):
        os.chown(prefix.path, OWNER, OWNER)
    os.chmod(prefix.path, 0o644)  # what a copying tool asks for
    assert os.stat(prefix.path).st_mode & 0o777 == 0o444


def test_store_control_is_the_daemons(daemon):
    assert os.stat(daemon.mount / ".kvfs/control").st_mode & 0o777 == 0o600
    as_user(
        NOBODY,
        """
try:
    os.open(sys.argv[1], os.O_RDWR)
    sys.exit("opened")
except PermissionError:
    pass
open(sys.argv[2]).read()
""",
        str(daemon.mount / ".kvfs/control"),
        str(daemon.mount / ".kvfs/version"),
    )
