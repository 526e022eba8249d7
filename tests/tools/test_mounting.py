"""kvfs mount and kvfs umount; a mount whose daemon died; other users."""

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest


@pytest.fixture
def place():
    """A directory on a disk for a mount of the test's own; nothing stays mounted in it."""
    with tempfile.TemporaryDirectory(
        prefix="kvfs-tools.", dir=os.environ.get("TMPDIR", "/var/tmp")
    ) as root:
        root = Path(root)
        try:
            yield root
        finally:
            for name in ("mount", "run"):
                if os.path.ismount(root / name):
                    subprocess.run(["umount", "-l", root / name], check=False)


def mount(kvfs, place, *flags, **options):
    return kvfs(
        "mount", place / "mount", "--dram", "32MiB", "--nvme", f"{place / 'disk'}:128MiB",
        "--run-dir", place / "run", "--log-file", place / "log", *flags, **options,
    )  # fmt: skip


def daemon_pids(place):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"kvfsd") and str(place / "mount").encode() in words:
            found.append(int(pid))
    return found


def test_mount_and_umount(kvfs, place):
    (place / "disk").mkdir()
    done = mount(kvfs, place)
    assert done.out == f"mounted on {place / 'mount'}\n"
    assert (
        kvfs("status", "--mount", place / "mount", "--json").json["tiers"]["dram"]["capacity"]
        == 32 << 20
    )
    assert kvfs("umount", place / "mount", "--drop-dram", "--json").json["daemon_was_dead"] is False
    assert not os.path.ismount(place / "mount")
    mount(kvfs, place)  # waits for the end of the daemon before
    kvfs("umount", os.path.relpath(place / "mount"), "--drop-dram")  # however it is spelled
    assert not os.path.ismount(place / "mount")
    deadline = time.monotonic() + 10
    while daemon_pids(place) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert daemon_pids(place) == []


def test_flags_are_the_daemons_wherever_they_stand(kvfs, place):
    (place / "mount").mkdir()
    config = place / "kvfsd.toml"
    config.write_text(
        f'mountpoint = "{place / "mount"}"\ndram = "32MiB"\nrun_dir = "{place / "run"}"\n'
        f'log_file = "{place / "log"}"\n'
    )
    for arguments in (
        ["--config", config],
        ["--config", config, place / "mount"],
        ["--json", place / "mount", "--foreground=false", "--config", config],
    ):
        kvfs("mount", *arguments, cwd=place)
        assert os.path.ismount(place / "mount")
        kvfs("umount", place / "mount", "--drop-dram")
    assert {entry.name for entry in place.iterdir()} <= {"mount", "kvfsd.toml", "log", "run",
                                                         "run.lock"}  # fmt: skip


def test_mount_says_why_not(kvfs, place):
    done = mount(kvfs, place, "--dram", "lots", status=None)
    assert done.status == 2
    assert "dram" in done.err
    assert "was not mounted" in done.err
    mount(kvfs, place, "--nvme", f"{place / 'large'}:1PiB", status=5)
    mount(kvfs, place)
    assert "is mounted there" in mount(kvfs, place, status=5).err
    kvfs("umount", place / "mount", "--drop-dram")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_mount_where_one_may_not(kvfs, place):
    for name, mode in ((".", 0o755), ("mount", 0o755), ("disk", 0o700), ("own", 0o777)):
        (place / name).mkdir(exist_ok=True)
        (place / name).chmod(mode)
    arguments = ["mount", place / "mount", "--dram", "32MiB", "--run-dir", place / "own/run"]
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    err = kvfs(*arguments, "--nvme", f"{place / 'disk/x'}:64MiB", status=4, **nobody).err
    assert "Permission denied" in err


def test_dead_daemon(kvfs, place):
    (place / "disk").mkdir()
    mount(kvfs, place)
    for pid in daemon_pids(place):
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while daemon_pids(place) and time.monotonic() < deadline:
        time.sleep(0.05)
    line = kvfs.fails(3, "status", "--mount", place / "mount")
    assert "the daemon of" in line
    assert "kvfs umount" in line
    assert "its daemon was dead" in kvfs("umount", place / "mount").out
    assert not os.path.ismount(place / "mount")


def test_a_daemon_that_goes_in_the_middle(kvfs, place):
    (place / "disk").mkdir()
    mount(kvfs, place)
    top = subprocess.Popen(
        [kvfs.program, "top", "--once", "--interval", "5", "--mount", place / "mount"],
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(2)  # it has looked once
    for pid in daemon_pids(place):
        os.kill(pid, signal.SIGKILL)
    assert "cannot be opened" in top.communicate(timeout=20)[1]
    assert top.returncode == 3
    kvfs("umount", place / "mount")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_other_users(kvfs, daemon, stored):
    os.chmod(daemon.root, 0o755)
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    assert (
        "may not be opened"
        in kvfs("ns", "rm", stored.name, "--mount", daemon.mount, status=4, **nobody).err
    )
    os.chmod(daemon.mount / stored.name, 0o700)
    assert kvfs("ls", stored.name, "--mount", daemon.mount, status=4, **nobody).err
    assert stored.name not in kvfs("ns", "list", "--names", "--mount", daemon.mount, **nobody).out
