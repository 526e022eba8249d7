"""Starting, ending and refusing to start."""

import errno
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from populate import GEOMETRY, create_namespace, run, store_prefix
from raw_client import Lease, Namespace, control, expect_errno, hex_of
from support.daemon import Daemon


@pytest.fixture
def root():
    path = Path(tempfile.mkdtemp(prefix="kvfs-test.", dir=os.environ.get("TMPDIR", "/var/tmp")))
    yield path
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for point in reversed(mounts):
        if Path(point).is_relative_to(path):
            run("umount", "-l", point)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def own(bin_dir, root):
    """A daemon of this test's own, not started."""
    daemon = Daemon(bin_dir, root, dram="32MiB", nvme="128MiB")
    yield daemon
    daemon.remove()


def another(own, *options: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(o) for o in (*own._command, *options)], capture_output=True, text=True, timeout=30
    )


def test_sigterm_writes_back_unmounts_and_keeps(own):
    own.start()
    ns = create_namespace(own, "a")
    prefix = store_prefix(ns, 20)
    ns.close()
    begin = time.monotonic()
    own.process.terminate()
    assert own.process.wait(20) == 0
    own.process = None
    assert time.monotonic() - begin < 10
    assert not os.path.ismount(own.mount)
    assert os.listdir(own.mount) == []
    own.start()
    ns = Namespace(f"{own.mount}/a")
    assert ns.load(prefix.key) == [b[0] for b in prefix.blocks]
    assert ns.control(op="stat", key=hex_of(prefix.key))["tiers"] == {
        "gpu": 0,
        "dram": 20,
        "nvme": 20,
    }
    ns.close()


def test_sigterm_with_open_files(own):
    own.start()
    ns = create_namespace(own, "a")
    prefix = store_prefix(ns, 4)
    lease = Lease(ns, prefix.key)
    assert lease.extents()[1] == 4
    mapping = ns.slab(ns.slabs()[0][0])
    own.process.terminate()
    assert own.process.wait(20) == 0
    own.process = None
    assert len(mapping[:4096]) == 4096  # the client's mapping outlives the daemon
    with expect_errno(errno.ENOTCONN):
        lease.extents()
    lease.close()
    ns.close()


def test_sigkill_then_start_again(own):
    own.start()
    ns = create_namespace(own, "a")
    prefix = store_prefix(ns, 8)
    ns.control(op="flush")
    own.kill()
    with expect_errno(errno.ENOTCONN):
        os.statvfs(own.mount)
    ns.close()
    own.start()
    ns = Namespace(f"{own.mount}/a")
    assert ns.load(prefix.key) == [b[0] for b in prefix.blocks]
    ns.close()
    assert (
        len(
            [
                line
                for line in Path("/proc/self/mounts").read_text().splitlines()
                if str(own.mount) in line
            ]
        )
        == 1
    )


def test_umount_ends_it(own):
    own.start()
    run("umount", own.mount)
    assert own.process.wait(20) == 0
    own.process = None


@pytest.mark.parametrize("drop", [False, True])
def test_control_shutdown(own, drop):
    own.start()
    ns = create_namespace(own, "a")
    prefix = store_prefix(ns, 8)
    ns.close()
    assert control(f"{own.mount}/.kvfs/control", op="shutdown", drop_dram=drop)["ok"]
    assert own.process.wait(20) == 0
    own.process = None
    assert os.path.ismount(own.root / "run") is not drop
    own.start()
    ns = Namespace(f"{own.mount}/a")
    tiers = ns.control(op="stat", key=hex_of(prefix.key))["tiers"]
    assert tiers == {"gpu": 0, "dram": 0 if drop else 8, "nvme": 8}
    assert ns.load(prefix.key) == [b[0] for b in prefix.blocks]
    ns.close()


@pytest.mark.parametrize("drop", [False, None])
def test_control_shutdown_overrides_the_configuration(bin_dir, root, drop):
    daemon = Daemon(bin_dir, root, dram="32MiB", flags=["--keep-dram=false"]).start()
    asked = {} if drop is None else {"drop_dram": drop}
    assert control(f"{daemon.mount}/.kvfs/control", op="shutdown", **asked)["ok"]
    assert daemon.process.wait(20) == 0
    daemon.process = None
    assert os.path.ismount(daemon.root / "run") is (drop is False)
    daemon.remove()


def test_shutdown_from_the_shell(own):
    own.start()
    run("sh", "-c", f'echo \'{{"op": "shutdown"}}\' > {own.mount}/.kvfs/control')
    assert own.process.wait(20) == 0
    own.process = None


def test_a_second_daemon_is_refused(own, root):
    own.start()
    same = another(own)
    assert same.returncode == 5
    assert "mounted" in same.stderr
    other_mount = root / "other"
    other_mount.mkdir()
    store = another(own, "--mountpoint", other_mount)
    assert store.returncode == 5
    assert f"process {own.process.pid}" in store.stderr
    run_too = another(own, "--mountpoint", other_mount, "--run-dir", root / "run2")
    assert run_too.returncode == 5
    assert "used by" in run_too.stderr
    assert own.alive()


def stop_all_threads(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGSTOP)
    give_up = time.monotonic() + 20
    for stat in Path(f"/proc/{process.pid}/task").glob("*/stat"):
        while stat.read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < give_up
            time.sleep(0.01)


def test_a_mount_whose_daemon_hangs_is_named(own):
    own.start()
    try:
        stop_all_threads(own.process)
        failed = another(own)
    finally:
        own.process.send_signal(signal.SIGCONT)
    assert failed.returncode == 7
    assert f"{own.mount}: what is mounted there has not answered" in failed.stderr
    assert "umount -l" in failed.stderr
    assert own.alive()
    own.stop()
    own.start()


def test_sd_notify(own, root):
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(str(root / "notify"))
    server.settimeout(20)
    os.environ["NOTIFY_SOCKET"] = str(root / "notify")
    try:
        own.start()
        assert server.recv(100) == b"READY=1"
        assert os.path.exists(own.mount / ".kvfs/version")
        own.stop()
        assert server.recv(100) == b"STOPPING=1"
    finally:
        del os.environ["NOTIFY_SOCKET"]
        server.close()


def test_background(own, root):
    log = root / "background.log"
    done = another(own, "--background", "--log-file", log)
    assert done.returncode == 0, done.stderr
    assert os.path.exists(own.mount / ".kvfs/version")  # mounted when the parent returns
    failed = another(own, "--background", "--log-file", log)
    assert failed.returncode == 5  # the child's
    assert "mounted" in failed.stderr
    control(f"{own.mount}/.kvfs/control", op="shutdown")
    deadline = time.monotonic() + 20
    while os.path.ismount(own.mount):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    while "unmounted" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_interrupted_wait(own):
    """A client that is killed while its read waits for NVMe goes at once; so does its lease."""
    own.start()
    ns = create_namespace(own, "a")
    prefix = store_prefix(ns, 8)
    ns.control(op="flush")
    ns.control(op="evict", tier="dram", bytes=1 << 30)
    child = subprocess.Popen(["cat", prefix.path], stdout=subprocess.DEVNULL)
    child.send_signal(signal.SIGKILL)
    assert child.wait(5) == -signal.SIGKILL
    deadline = time.monotonic() + 5
    while ns.control(op="stat", key=hex_of(prefix.key))["leases"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    ns.close()


def test_foreign_files_in_the_nvme_directory(own):
    (own.disk / "letter.txt").write_text("dear")
    done = another(own)
    assert done.returncode == 2
    assert str(own.disk) in done.stderr
    assert (own.disk / "letter.txt").read_text() == "dear"
    assert str(own.root) not in Path("/proc/self/mounts").read_text(), "a failed start left a mount"


def test_dram_only(bin_dir, root):
    daemon = Daemon(bin_dir, root, dram="32MiB", nvme=None).start()
    ns = create_namespace(daemon, "a")
    prefix = store_prefix(ns, 5)
    fd = os.open(prefix.path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    ns.close()
    daemon.process.terminate()  # not stop(), which takes the tmpfs away
    assert daemon.process.wait(20) == 0
    daemon.start()
    ns = Namespace(f"{daemon.mount}/a")
    assert ns.load(prefix.key) == [b[0] for b in prefix.blocks]
    ns.close()
    daemon.remove()


def test_a_prefix_larger_than_dram_can_be_read(bin_dir, root):
    daemon = Daemon(bin_dir, root, dram="16MiB", nvme="256MiB", flags=["--slab", "2MiB"]).start()
    try:
        ns = create_namespace(daemon, "a", {**GEOMETRY, "layers": 32})  # 256 KiB a block
        tokens, blocks, tip = [], [], None
        from populate import make_blocks, make_tokens

        for part in range(10):  # 40 MiB in all
            more_tokens, more = make_tokens(16, part), make_blocks(ns, 16, part)
            tip = ns.store(more_tokens, more, **({} if tip is None else {"parent": tip}))
            tokens += more_tokens
            blocks += more
            ns.control(op="flush")
        with open(ns.file(tip), "rb", buffering=0) as file:
            header = int.from_bytes(file.read(8), "little") + 8
            file.seek(header)
            for number, block in enumerate(blocks):
                data = file.read(len(block[0]))
                while len(data) < len(block[0]):
                    data += file.read(len(block[0]) - len(data))
                assert data == block[0], number
        # Several at once on one descriptor: what one answers with another does not let go of.
        content = b"".join(block[0] for block in blocks)
        drop = os.open(ns.file(tip), os.O_RDONLY)
        os.posix_fadvise(drop, 0, 0, os.POSIX_FADV_DONTNEED)

        def read_piece(at: int) -> None:
            data = os.pread(drop, 1 << 20, header + at)
            assert data == content[at : at + len(data)], at

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(read_piece, range(0, len(content), 1 << 20)))
        os.close(drop)
        ns.close()
    finally:
        daemon.remove()
