"""Plain directories stay within their quotas, by evicting what was not used for longest."""

import contextlib
import errno
import os
import threading
import time

import pytest
from plain import below, direct_write, refused
from populate import run
from support.plain_directories import plain_directory, settled, statistics, until

MIB = 1 << 20
QUOTA = 32 * MIB
SLACK = 4 * MIB  # what may be written between two looks of the daemon


@pytest.fixture(scope="module", params=["auto", "off"])
def daemon(make_daemon, request):
    flags = ["--passthrough", request.param, "--plain-quota", "256MiB", "--store-timeout", "2s"]
    return make_daemon(nvme="512MiB", flags=flags)


@pytest.fixture
def here(daemon, request):
    path = daemon.mount / f"quota-{abs(hash(request.node.name)) % 10**8}"
    path.mkdir()
    os.setxattr(path, "user.kvfs.quota", b"32MiB")
    yield path
    run("rm", "-rf", path)


def bytes_in(path) -> int:
    found = 0
    for entry in os.scandir(path):
        with contextlib.suppress(FileNotFoundError):  # it may be evicted meanwhile
            found += entry.stat().st_size
    return found


def test_the_quota_is_a_setting_of_the_directory(daemon, here):
    assert os.getxattr(here, "user.kvfs.quota") == b"32MiB"
    assert "user.kvfs.quota" in os.listxattr(here)
    assert statistics(daemon, here.name)["quota"] == QUOTA
    os.setxattr(here, "user.kvfs.quota", b"1.5GiB")  # never over that of all together
    assert statistics(daemon, here.name)["quota"] == 256 * MIB
    os.removexattr(here, "user.kvfs.quota")
    assert os.getxattr(here, "user.kvfs.quota") == b"256MiB"
    refused(errno.EINVAL, os.setxattr, here, "user.kvfs.quota", b"a lot")


def test_the_unit_is_a_setting_of_the_directory(daemon, here):
    assert os.getxattr(here, "user.kvfs.unit") == b"file"
    assert "user.kvfs.unit" in os.listxattr(here)
    os.setxattr(here, "user.kvfs.unit", b"directory")
    assert os.getxattr(here, "user.kvfs.unit") == b"directory"
    assert statistics(daemon, here.name)["unit"] == "directory"
    for wrong in (b"", b"Directory", b"directory ", b"prompt"):
        refused(errno.EINVAL, os.setxattr, here, "user.kvfs.unit", wrong)
    (here / "below").mkdir()
    refused(errno.ENODATA, os.getxattr, here / "below", "user.kvfs.unit")
    os.removexattr(here, "user.kvfs.unit")
    assert os.getxattr(here, "user.kvfs.unit") == b"file"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs several users, so root")
def test_whom_the_directory_belongs_to_does_not_set_its_quota(daemon, here):
    os.chmod(daemon.root, 0o755)
    os.chown(here, 12345, 12345)

    def as_owner(*command, status: int = 0) -> str:
        user = ("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups")
        return run(*user, *command, status=status)

    quota = ("-n", "user.kvfs.quota")
    as_owner("setfattr", *quota, "-v", "200MiB", here, status=1)
    as_owner("setfattr", "-x", "user.kvfs.quota", here, status=1)
    assert "32MiB" in as_owner("getfattr", "--only-values", *quota, here)
    as_owner("setfattr", "-n", "user.kvfs.unit", "-v", "directory", here)


def test_the_count_that_is_kept_is_not_the_users(daemon, here):
    (here / "file").write_bytes(bytes(MIB))
    until(lambda: "user.kvfs.bytes" in os.listxattr(below(daemon, here)))
    assert "user.kvfs.bytes" not in os.listxattr(here)
    refused(errno.EOPNOTSUPP, os.setxattr, here, "user.kvfs.bytes", b"0")
    refused(errno.ENODATA, os.removexattr, here, "user.kvfs.bytes")


@pytest.fixture
def entry(tmp_path):
    """A directory as an engine makes one for a prompt: 3 MiB in 3 files."""
    path = tmp_path / "entry"
    (path / "nested").mkdir(parents=True)
    for name in ("0", "1", "nested/2"):
        (path / name).write_bytes(os.urandom(MIB))
    return path


def test_whole_directories_go(daemon, here, entry):
    os.setxattr(here, "user.kvfs.unit", b"directory")
    for number in range(16):
        run("cp", "-r", entry, here / f"{number:02}")
        assert statistics(daemon, here.name)["bytes"] <= QUOTA + SLACK
        if number == 0:
            first = os.open(here / "00", os.O_RDONLY | os.O_DIRECTORY)
            run("ls", "-lR", here)  # the kernel knows the names
    settled(daemon)
    until(lambda: statistics(daemon, here.name)["bytes"] <= QUOTA * 15 // 16)
    names = sorted(os.listdir(here))
    assert names == [f"{number:02}" for number in range(16 - len(names), 16)]
    assert 8 <= len(names) <= 10
    for name in names:
        run("diff", "-r", entry, here / name)
    assert statistics(daemon, here.name)["evictions"]["files"] == 3 * (16 - len(names))
    assert not (here / "00").exists()
    assert not (here / "00/nested/2").exists()
    run("cp", "-r", entry, here / "00")
    run("diff", "-r", entry, here / "00")
    for name in ("1", "nested"):  # of the one before
        with pytest.raises(OSError):
            os.stat(name, dir_fd=first)
    os.close(first)
    run("rsync", "-a", "--delete", f"{entry}/", here / "rsynced")
    run("diff", "-r", entry, here / "rsynced")


def test_a_directory_with_an_open_file_stays(daemon, here, entry):
    os.setxattr(here, "user.kvfs.unit", b"directory")
    run("cp", "-r", entry, here / "held")
    with (here / "held/nested/2").open("rb") as held:
        for number in range(12):
            run("cp", "-r", entry, here / f"{number}")
        assert held.read() == (entry / "nested/2").read_bytes()
        run("diff", "-r", entry, here / "held")
    assert not (here / "0").exists()


def test_more_is_written_than_fits_and_the_oldest_go(daemon, here):
    for number in range(40):
        direct_write(here / f"{number:02}", bytes([number]) * (2 * MIB))
        assert bytes_in(here) <= QUOTA + SLACK
        time.sleep(0.002)  # the clock of a file system is coarse
    until(lambda: bytes_in(here) <= QUOTA * 15 // 16)
    names = sorted(os.listdir(here))
    assert names[-1] == "39"
    assert names == [f"{number:02}" for number in range(40 - len(names), 40)]
    gone = 0  # since: it is relieved down to 7/8
    for name in names:
        try:
            assert (here / name).read_bytes() == bytes([int(name)]) * (2 * MIB)
        except FileNotFoundError:
            assert name == names[gone]
            gone += 1
    left = len(names) - gone
    assert left >= 12  # no more goes than need be
    stats = statistics(daemon, here.name)
    assert stats["evictions"]["files"] == 40 - left
    assert stats["evictions"]["bytes"] == (40 - left) * 2 * MIB
    assert stats["files"] == left
    assert stats["bytes"] == bytes_in(here)
    assert stats["hits"] == left


def test_what_was_read_stays(here):
    for number in range(8):
        (here / f"old-{number}").write_bytes(bytes(2 * MIB))
    for number in range(8):  # as if they had been there for a while
        os.utime(here / f"old-{number}", (1e9 + number, 1e9))
    (here / "old-0").read_bytes()
    for number in range(14):
        (here / f"new-{number}").write_bytes(bytes(2 * MIB))
    assert (here / "old-0").exists()
    assert not (here / "old-1").exists()


def test_what_is_open_stays_and_reads_on(here):
    first = bytes([7]) * (2 * MIB)
    (here / "first").write_bytes(first)
    with (here / "first").open("rb") as reader, (here / "second").open("wb", 0) as writer:
        writer.write(b"half")
        for number in range(40):
            (here / f"{number}").write_bytes(bytes(2 * MIB))
        assert (here / "first").exists()
        assert (here / "second").exists()
        assert reader.read() == first
        writer.write(b" written")
    assert (here / "second").read_bytes() == b"half written"


def test_statfs_says_what_is_left(daemon, here):
    status = os.statvfs(here)
    assert status.f_blocks * status.f_frsize == QUOTA
    (here / "file").write_bytes(bytes(8 * MIB))
    settled(daemon)
    status = os.statvfs(here / "file")
    assert (status.f_blocks - status.f_bfree) * status.f_frsize == 8 * MIB
    assert status.f_bavail * status.f_frsize == QUOTA - 8 * MIB
    os.unlink(here / "file")
    assert os.statvfs(here).f_bfree * 4096 == QUOTA


def test_what_cannot_fit_is_told_to_its_writer(daemon, here):
    with pytest.raises(OSError) as error:
        (here / "too-large").write_bytes(bytes(QUOTA + 16 * MIB))
    assert error.value.errno == errno.ENOSPC
    with (here / "holder").open("wb", buffering=0) as holder:
        refused(errno.ENOSPC, os.posix_fallocate, holder.fileno(), 0, QUOTA + MIB)
        holder.write(bytes(4 * MIB))
    until(lambda: bytes_in(here) <= QUOTA)
    (here / "fits").write_bytes(bytes(4 * MIB))
    assert (here / "fits").exists()


def test_what_can_never_fit_costs_nobody_anything(daemon, here):
    """Nor does what one directory wants cost another one, which has room."""
    other = plain_directory(daemon, "other", "16MiB")
    (other / "file").write_bytes(bytes(13 * MIB))
    for number in range(4):
        (here / f"{number}").write_bytes(bytes(2 * MIB))
    settled(daemon)
    refused(errno.ENOSPC, os.truncate, here / "0", 1 << 50)
    with (here / "new").open("wb") as new:
        refused(errno.ENOSPC, os.posix_fallocate, new.fileno(), 0, 1 << 50)
        os.posix_fallocate(new.fileno(), 0, QUOTA - 4 * MIB)  # all others have to go
    assert not (here / "0").exists()
    assert (other / "file").exists()
    (other / "file").unlink()
    other.rmdir()


def test_while_all_is_open_a_new_file_has_no_room(daemon, here):
    held = []
    try:
        for number in range(16):
            (here / f"{number}").write_bytes(bytes(2 * MIB))
            held.append((here / f"{number}").open("rb"))
        started = time.monotonic()
        refused(errno.ENOSPC, (here / "new").write_bytes, bytes(2 * MIB))
        assert 1 < time.monotonic() - started < 10  # store_timeout
        held.pop().close()
        (here / "new").write_bytes(bytes(2 * MIB))
    finally:
        for file in held:
            file.close()


def test_directories_share_the_quota_of_all(daemon):
    directories = [daemon.mount / f"share-{number}" for number in range(2)]
    for path in directories:
        path.mkdir()
    for number in range(70):
        (directories[number % 2] / f"{number}").write_bytes(bytes(4 * MIB))
    settled(daemon)
    total = sum(bytes_in(path) for path in directories)
    assert 200 * MIB < total <= 256 * MIB + SLACK
    for path in directories:
        assert statistics(daemon, path.name)["evictions"]["files"] > 0
        run("rm", "-rf", path)


def test_many_writers_and_readers_within_a_quota(daemon, here):
    """Each reads back what is there of its own; gone is a miss, other bytes are not."""
    wrong: list[str] = []
    missed = [0]

    def work(number: int) -> None:
        for turn in range(40):
            path = here / f"d{number}/{turn}"
            os.makedirs(path.parent, exist_ok=True)
            temporary = path.with_suffix(".tmp")
            direct_write(temporary, bytes([number, turn]) * (256 << 10))
            os.rename(temporary, path)
            earlier = here / f"d{number}/{max(0, turn - 5)}"
            try:
                content = earlier.read_bytes()
            except FileNotFoundError:
                missed[0] += 1
                continue
            if content != bytes([number, max(0, turn - 5)]) * (256 << 10):
                wrong.append(str(earlier))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    settled(daemon)
    until(lambda: statistics(daemon, here.name)["bytes"] <= QUOTA * 15 // 16)
    stats = statistics(daemon, here.name)
    assert stats["evictions"]["files"] > 100
    assert stats["bytes"] == sum(bytes_in(here / name) for name in os.listdir(here)) <= QUOTA


def test_hits_and_misses(daemon, here):
    for name in ("a", "b"):
        (here / "temporary").write_bytes(b"x")
        os.rename(here / "temporary", here / name)  # looking for a free name is no miss
    (here / "directory").mkdir()
    for name in ("a", "b", "a", "c"):
        if (here / name).exists():
            (here / name).read_bytes()
    stats = statistics(daemon, here.name)
    assert (stats["hits"], stats["misses"]) == (3, 1)


def test_metrics(daemon, here):
    (here / "file").write_bytes(b"x")
    (here / "file").read_bytes()
    metrics = (daemon.mount / ".kvfs/metrics").read_text()
    assert f'kvfs_plain_hits_total{{directory="{here.name}"}} 1' in metrics
    assert f'kvfs_plain_files{{directory="{here.name}"}} 1' in metrics
    assert f'kvfs_plain_quota_bytes{{directory="{here.name}"}} {QUOTA}' in metrics
