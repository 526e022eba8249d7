"""What a crash leaves of plain directories: whole files or none; and bytes that have changed."""

import contextlib
import errno
import mmap
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from plain import below, drop_page_cache, refused
from support.plain_directories import settled, statistics, until

MIB = 1 << 20


@pytest.fixture(params=["auto", "off"])
def daemon(make_daemon, request):
    return make_daemon(nvme="1GiB", flags=["--passthrough", request.param])


@pytest.fixture
def here(daemon) -> Path:
    path = daemon.mount / "plain"
    path.mkdir()
    return path


def restart(daemon, *, crash: bool) -> None:
    if crash:
        daemon.kill()
    else:
        daemon.stop()
    daemon.start()


@pytest.mark.parametrize("crash", [True, False], ids=["killed", "ended"])
def test_files_and_directories_come_back(daemon, here, crash):
    (here / "deep/er").mkdir(parents=True)
    contents = {f"deep/er/{number}": os.urandom(100_000) for number in range(20)}
    for name, content in contents.items():
        (here / name).write_bytes(content)
    os.symlink("deep", here / "link")
    os.setxattr(here, "user.kvfs.quota", b"100MiB")
    os.setxattr(here, "user.kvfs.unit", b"directory")
    os.setxattr(here / "deep/er/0", "user.colour", b"green")
    os.chmod(here, 0o700)
    settled(daemon)
    restart(daemon, crash=crash)
    until(lambda: statistics(daemon, "plain")["counted"])
    for name, content in contents.items():
        assert (here / name).read_bytes() == content
    assert os.readlink(here / "link") == "deep"
    assert os.getxattr(here, "user.kvfs.quota") == b"100MiB"
    assert os.getxattr(here, "user.kvfs.unit") == b"directory"
    assert os.getxattr(here / "deep/er/0", "user.colour") == b"green"
    assert here.stat().st_mode & 0o777 == 0o700
    stats = statistics(daemon, "plain")
    assert stats["files"] == 20
    assert stats["bytes"] == 20 * 102_400
    assert stats["evictions"]["incomplete"] == stats["evictions"]["corrupt"] == 0


@pytest.mark.parametrize("crash", [True, False], ids=["killed", "ended"])
def test_what_is_being_written_is_gone_afterwards(daemon, here, crash):
    (here / "whole").write_bytes(b"whole")
    (here / "rewritten").write_bytes(bytes(MIB))
    settled(daemon)
    half = (here / "half").open("wb", buffering=0)
    half.write(bytes(3 * MIB))
    again = (here / "rewritten").open("r+b", buffering=0)
    again.write(b"other")
    unlinked = (here / "unlinked").open("wb", buffering=0)
    os.unlink(here / "unlinked")
    if crash:
        daemon.kill()
    else:  # whoever has a file open keeps the mount from being unmounted, but not the daemon
        daemon.stop()
    for file in (half, again, unlinked):
        with contextlib.suppress(OSError):  # there is nobody to tell
            file.close()
    daemon.start()
    assert not (here / "half").exists()
    assert sorted(os.listdir(here))[-1] == "whole" or (here / "whole").exists()
    refused(errno.ENOENT, (here / "rewritten").read_bytes)
    until(lambda: os.listdir(here) == ["whole"])
    assert (here / "whole").read_bytes() == b"whole"
    until(lambda: statistics(daemon, "plain")["counted"])
    stats = statistics(daemon, "plain")
    assert stats["evictions"]["incomplete"] == 2
    assert (stats["files"], stats["bytes"]) == (1, 4096)


def test_fsync_keeps_what_is_open(daemon, here):
    synced = (here / "synced").open("wb", buffering=0)
    synced.write(b"so far")
    os.fsync(synced.fileno())
    more = (here / "more").open("wb", buffering=0)
    more.write(b"so far")
    os.fsync(more.fileno())
    time.sleep(0.02)  # the clock of a file system is coarse
    more.write(b" and half of the rest")
    daemon.kill()
    daemon.start()
    assert (here / "synced").read_bytes() == b"so far"
    assert not (here / "more").exists() or refused(errno.ENOENT, (here / "more").read_bytes) is None


def change_below(path: Path) -> None:
    """Other bytes with the same times, as a broken disk leaves them."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"\xff\x00\xff")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_changed_bytes_are_never_read(daemon, here):
    for name in ("good", "bad", "cut", "unread"):
        (here / name).write_bytes(os.urandom(MIB))
    good = (here / "good").read_bytes()
    settled(daemon)
    daemon.kill()
    for name in ("bad", "cut", "unread"):
        change_below(below(daemon, here / name))
    daemon.start()
    refused(errno.ENOENT, os.truncate, here / "cut", MIB // 2)  # which would make it anew
    assert (here / "good").read_bytes() == good
    refused(errno.ENOENT, (here / "bad").read_bytes)
    assert not (here / "bad").exists()
    answer = daemon.control({"op": "plain_verify", "name": "plain"})
    assert answer["bad"] == ["unread"]
    assert answer["checked"] == 2
    assert sorted(os.listdir(here)) == ["good"]
    assert statistics(daemon, "plain")["evictions"]["corrupt"] == 3
    assert "bad: dropped" in daemon.log.read_text()


def test_what_was_compared_is_read_where_that_cannot_be_recorded(daemon, here):
    """As on a disk that is full or read-only."""
    (here / "file").write_bytes(b"content")
    settled(daemon)
    daemon.kill()
    file = below(daemon, here / "file")
    if subprocess.run(["chattr", "+i", file], capture_output=True).returncode != 0:
        daemon.start()
        pytest.skip("the file system below has no immutable files")
    try:
        daemon.start()
        for _ in range(2):
            assert (here / "file").read_bytes() == b"content"
    finally:
        subprocess.run(["chattr", "-i", file], check=True)


def test_verify_finds_what_changes_while_the_daemon_runs(daemon, here):
    for name in ("good", "bad"):
        (here / name).write_bytes(os.urandom(MIB))
    settled(daemon)
    drop_page_cache(here / "bad")
    settled(daemon)  # what is open is not dropped
    change_below(below(daemon, here / "bad"))
    assert daemon.control({"op": "plain_verify", "name": "plain"})["bad"] == ["bad"]
    assert os.listdir(here) == ["good"]
    refused_answer = daemon.control({"op": "plain_verify", "name": "nothing"})
    assert refused_answer["code"] == "not_found"


def test_set_times_and_mappings_are_no_damage(daemon, here):
    (here / "touched").write_bytes(b"content")
    (here / "mapped").write_bytes(bytes(MIB))
    settled(daemon)
    os.utime(here / "touched", (1e9, 1e9))
    with (here / "mapped").open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    memory[5] = 7
    memory.flush()
    memory.close()
    settled(daemon)
    restart(daemon, crash=True)
    assert (here / "touched").read_bytes() == b"content"
    assert (here / "mapped").read_bytes()[5] == 7


WRITER = """
import os, sys
here, number = sys.argv[1], int(sys.argv[2])
for turn in range(100000):
    content = (b"%06d" % turn) * 20000
    temporary = f"{here}/t{number}"
    with open(temporary, "wb") as file:
        file.write(content)
    os.rename(temporary, f"{here}/w{number}-{turn % 50}")
    with open(f"{here}/p{number}", "wb") as file:  # in place
        file.write(content)
"""


def test_killed_again_and_again_under_writers(daemon, here):
    rounds = int(os.environ.get("KVFS_KILL_ROUNDS", "4"))
    for turn in range(rounds):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(here), str(number)], stderr=subprocess.DEVNULL
            )
            for number in range(3)
        ]
        time.sleep(0.7 + 0.2 * turn)
        daemon.kill()
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        daemon.start()
        seen = 0
        for name in os.listdir(here):
            try:
                content = (here / name).read_bytes()
            except FileNotFoundError:
                continue
            assert len(content) == 120_000, name
            assert content == content[:6] * 20_000, name
            seen += 1
        assert seen > 10
        assert statistics(daemon, "plain")["evictions"]["corrupt"] == 0


WRITER_OF_DIRECTORIES = """
import os, sys
here, number = sys.argv[1], int(sys.argv[2])
for turn in range(100000):
    temporary = f"{here}/t{number}-{turn}"
    os.mkdir(temporary)
    for file in range(4):
        with open(f"{temporary}/{file}", "wb") as output:
            output.write(b"%06d" % turn * 20000)
    os.rename(temporary, f"{here}/w{number}-{turn}")
"""


def test_killed_while_directories_are_evicted(daemon, here):
    """What is there is whole, whichever of them were leaving."""
    os.setxattr(here, "user.kvfs.quota", b"16MiB")
    os.setxattr(here, "user.kvfs.unit", b"directory")
    for _ in range(int(os.environ.get("KVFS_KILL_ROUNDS", "4"))):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER_OF_DIRECTORIES, str(here), str(number)],
                stderr=subprocess.DEVNULL,
            )
            for number in range(2)
        ]

        def evicts() -> bool:
            return statistics(daemon, "plain")["evictions"]["files"] >= 100

        until(evicts, 60)
        daemon.kill()
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        daemon.start()
        until(lambda: statistics(daemon, "plain")["counted"])
        assert os.listdir(f"{daemon.disk}.plain/leaving") == []
        whole = [path for path in here.iterdir() if path.name.startswith("w")]
        for path in whole:
            contents = {file.read_bytes() for file in path.iterdir()}
            assert len(list(path.iterdir())) == 4, path
            assert contents == {path.name.split("-")[1].zfill(6).encode() * 20000}
        assert len(whole) > 10
        subprocess.run(["rm", "-rf", *here.iterdir()], check=True)


def test_another_daemon_and_other_files_are_refused(daemon, here, bin_dir, tmp_path):
    def start(directory: str, status=2) -> str:
        mount = tmp_path / "mount"
        mount.mkdir(exist_ok=True)
        done = subprocess.run(
            [bin_dir / "kvfsd", mount, "--dram", "64MiB", "--plain-dir", directory]
            + ["--plain-quota", "64MiB", "--run-dir", tmp_path / "run"],
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == status
        return done.stderr

    assert "another daemon" in start(f"{daemon.disk}.plain", status=5)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("x")
    assert "files in it that are not kvfs's" in start(str(tmp_path / "mine"))
    assert "on the mount itself" in start(str(tmp_path / "mount/below"))


def test_a_mount_without_a_place_for_them_says_so(make_daemon):
    daemon = make_daemon(nvme=None)
    refused(errno.EOPNOTSUPP, (daemon.mount / "plain").mkdir)
    assert "plain_dir" in daemon.log.read_text()
