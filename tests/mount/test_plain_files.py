"""Files of plain directories: system calls and programs, in passthrough and through the daemon."""

import contextlib
import errno
import filecmp
import mmap
import os
import random
import shutil
import stat
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest
from plain import direct_read, direct_write, refused, rename_noreplace
from populate import create_namespace, run
from support.plain_directories import settled

MIB = 1 << 20


@pytest.fixture(scope="module", params=["auto", "off"])
def daemon(make_daemon, request):
    return make_daemon(nvme="2GiB", flags=["--passthrough", request.param])


@pytest.fixture
def here(daemon, request) -> Path:
    path = daemon.mount / f"plain-{abs(hash(request.node.name)) % 10**8}"
    path.mkdir()
    yield path
    shutil.rmtree(path)


def some_bytes(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def test_the_callers_umask_is_the_only_one(here):
    """The daemon has one of its own, mostly 022."""
    before = os.umask(0o002)
    try:
        (here / "shared").mkdir()
        (here / "shared/file").write_bytes(b"x")
    finally:
        os.umask(before)
    assert (here / "shared").stat().st_mode & 0o777 == 0o775
    assert (here / "shared/file").stat().st_mode & 0o777 == 0o664
    (here / "shared/file").unlink()
    (here / "shared").rmdir()


def test_a_symlinks_target_keeps_its_mode(here, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"x")
    outside.chmod(0o600)
    (here / "link").symlink_to(outside)
    link = os.open(here / "link", os.O_PATH | os.O_NOFOLLOW)
    with contextlib.suppress(OSError):  # newer kernels do not ask
        os.chmod(f"/proc/self/fd/{link}", 0o666)
    os.close(link)
    assert outside.stat().st_mode & 0o777 == 0o600
    (here / "link").unlink()


def test_a_directory_that_is_made_is_listed_beside_namespaces(daemon):
    path = daemon.mount / "listed"
    path.mkdir(mode=0o750)
    ns = create_namespace(daemon, "a-namespace")
    try:
        assert {"listed", "a-namespace"} <= set(os.listdir(daemon.mount))
        assert stat.S_IMODE(path.stat().st_mode) == 0o750
        assert path.stat().st_ino == next(
            entry.inode() for entry in os.scandir(daemon.mount) if entry.name == "listed"
        )
        refused(errno.EEXIST, path.mkdir)
        refused(errno.EEXIST, (daemon.mount / "a-namespace").mkdir)
        answer = daemon.control({"op": "ns_create", "name": "listed", "geometry": {}})
        assert not answer["ok"]
        refused(errno.ENOTEMPTY, os.rename, path, daemon.mount / "a-namespace")
        os.rename(path, daemon.mount / "renamed")
        assert "renamed" in os.listdir(daemon.mount)
        assert "listed" not in os.listdir(daemon.mount)
        (daemon.mount / "renamed/file").write_text("x")
        refused(errno.ENOTEMPTY, os.rmdir, daemon.mount / "renamed")
        os.unlink(daemon.mount / "renamed/file")
        os.rmdir(daemon.mount / "renamed")
        assert "renamed" not in os.listdir(daemon.mount)
    finally:
        ns.close()
        daemon.control({"op": "ns_remove", "name": "a-namespace", "force": True})


def test_contents_come_back_however_they_are_written_and_read(here):
    content = some_bytes(3 * MIB)
    (here / "buffered").write_bytes(content)
    direct_write(here / "direct", content)
    for name in ("buffered", "direct"):
        path = here / name
        assert path.read_bytes() == content
        assert direct_read(path, len(content)) == content
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as seen:
            assert seen[:] == content
        assert path.stat().st_size == len(content)
        assert path.stat().st_blocks * 512 >= len(content)


def test_shared_mappings_write(here):
    path = here / "mapped"
    path.write_bytes(bytes(MIB))
    with path.open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    memory[1000:1005] = b"hello"  # the descriptor is closed already
    memory.flush()
    memory.close()
    assert path.read_bytes()[1000:1005] == b"hello"


def test_appending_seeking_truncating_and_holes(here):
    path = here / "file"
    with path.open("ab", buffering=0) as file:
        for piece in (b"one", b"two"):
            file.write(piece)
    assert path.read_bytes() == b"onetwo"
    os.truncate(path, 3)
    assert path.read_bytes() == b"one"
    os.truncate(path, 10)
    assert path.read_bytes() == b"one" + bytes(7)
    with path.open("r+b", buffering=0) as file:
        file.seek(MIB)
        file.write(b"end")
        os.ftruncate(file.fileno(), MIB + 2)
        os.posix_fallocate(file.fileno(), 0, 2 * MIB)
    assert path.stat().st_size == 2 * MIB
    assert path.read_bytes()[MIB : MIB + 3] == b"en\0"
    with path.open("wb") as file:
        assert os.fstat(file.fileno()).st_size == 0


def test_renaming_over_a_file_that_is_read(here):
    old, new = some_bytes(MIB, 1), some_bytes(MIB, 2)
    (here / "name").write_bytes(old)
    (here / "temporary").write_bytes(new)
    with (here / "name").open("rb") as reader:
        os.rename(here / "temporary", here / "name")
        assert reader.read() == old
        assert os.fstat(reader.fileno()).st_nlink == 0
        assert (here / "name").read_bytes() == new
    assert os.listdir(here) == ["name"]
    (here / "other").write_bytes(old)
    assert rename_noreplace(here / "other", here / "name") == errno.EEXIST
    assert rename_noreplace(here / "other", here / "third") == 0
    assert (here / "third").read_bytes() == old


def test_readers_see_old_or_new_while_a_file_is_renamed_over(here):
    path = here / "name"
    contents = [bytes([number]) * (256 << 10) for number in range(4)]
    path.write_bytes(contents[0])
    stop, wrong = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            if path.read_bytes() not in contents:
                wrong.append("a mixture")

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for turn in range(200):
        temporary = here / f"temporary-{turn}"
        temporary.write_bytes(contents[turn % 4])
        os.rename(temporary, path)
    stop.set()
    for reader in readers:
        reader.join()
    assert not wrong


def test_an_unlinked_file_is_read_and_written_on(here):
    path = here / "file"
    path.write_bytes(b"content")
    with path.open("r+b") as file:
        os.unlink(path)
        assert not path.exists()
        assert file.read() == b"content"
        file.write(b" more")
        file.flush()
        assert os.fstat(file.fileno()).st_size == 12
        os.ftruncate(file.fileno(), 2)
        path.write_bytes(b"another")
        file.seek(0)
        assert file.read() == b"co"
    assert path.read_bytes() == b"another"


def test_directories_move_with_what_is_open_in_them(here):
    deep = here / "a/b/c"
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"content")
    with (deep / "file").open("r+b") as file:
        os.rename(here / "a", here / "z")
        file.write(b"CON")
        assert (here / "z/b/c/file").read_bytes()[3:] == b"tent"
    assert (here / "z/b/c/file").read_bytes() == b"CONtent"
    assert not (here / "a").exists()
    refused(errno.ENOTEMPTY, os.rmdir, here / "z/b")
    os.rename(here / "z/b/c/file", here / "file")
    os.rmdir(here / "z/b/c")


def test_what_is_refused(daemon, here):
    path = here / "file"
    path.write_bytes(b"x")
    refused(errno.EPERM, os.link, path, here / "hard")
    refused(errno.EPERM, os.mkfifo, here / "queue")
    refused(errno.ENAMETOOLONG, (here / ("n" * 256)).write_bytes, b"")
    refused(errno.ENOENT, os.rename, here / "nothing", here / "file")
    refused(errno.ENOTDIR, os.rmdir, path)
    refused(errno.EISDIR, os.unlink, here / ".." / here.name)
    other = daemon.mount / "another-directory"
    other.mkdir()
    try:
        refused(errno.EXDEV, os.rename, path, other / "file")
        refused(errno.EXDEV, os.rename, path, daemon.mount / "file")
        shutil.move(path, other / "file")  # copies, as between file systems
        assert (other / "file").read_bytes() == b"x"
        os.unlink(other / "file")
    finally:
        other.rmdir()


def test_symlinks(here):
    os.symlink("target", here / "link")
    assert os.readlink(here / "link") == "target"
    refused(errno.ENOENT, (here / "link").read_bytes)
    (here / "target").write_bytes(b"x")
    assert (here / "link").read_bytes() == b"x"
    os.utime(here / "link", (1, 2), follow_symlinks=False)
    assert os.lstat(here / "link").st_mtime == 2


def test_times_modes_owners(here):
    path = here / "file"
    path.write_bytes(b"x")
    os.utime(path, ns=(1_000_000_000, 2_123_456_789))
    assert path.stat().st_mtime_ns == 2_123_456_789
    assert path.stat().st_atime_ns == 1_000_000_000
    os.chmod(path, 0o640)
    os.chown(path, 1000, 1001)
    status = path.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o640, 1000, 1001)
    os.chmod(path, 0o4755)  # a cache runs nothing as somebody else
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    os.mkdir(here / "setgid")
    os.chmod(here / "setgid", 0o2775)
    assert stat.S_IMODE((here / "setgid").stat().st_mode) == 0o2775
    assert os.statvfs(here).f_flag & os.ST_NOSUID


def as_user(uid: int, gid: int, script: str, *arguments) -> str:
    done = subprocess.run(
        ["python3", "-c", script, *map(str, arguments)],
        user=uid,
        group=gid,
        extra_groups=[],
        capture_output=True,
        text=True,
    )
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs several users, so root")
def test_permissions_are_those_of_any_file_system(daemon, here):
    os.chmod(daemon.root, 0o755)
    os.chmod(here, 0o755)
    mine = here / "of-1000"
    mine.mkdir()
    os.chown(mine, 1000, 1000)
    write = "import sys; open(sys.argv[1], 'w').write('x'); print('written')"
    read = "import sys; print(open(sys.argv[1]).read())"
    assert as_user(1000, 1000, write, mine / "file") == "written"
    status = (mine / "file").stat()
    assert (status.st_uid, status.st_gid) == (1000, 1000)
    assert as_user(1001, 1001, read, mine / "file") == "x"
    assert "PermissionError" in as_user(1001, 1001, write, mine / "file")
    assert "PermissionError" in as_user(1001, 1001, write, mine / "other")
    os.chmod(mine / "file", 0o600)
    assert "PermissionError" in as_user(1001, 1001, read, mine / "file")
    os.chmod(mine, 0o2775)
    os.chown(mine, 1000, 2000)
    assert as_user(1001, 2000, write, mine / "shared") == "written"
    assert (mine / "shared").stat().st_gid == 2000


def test_extended_attributes(here):
    path = here / "file"
    path.write_bytes(b"x")
    settled_names = os.listxattr(path)
    os.setxattr(path, "user.colour", b"green")
    os.setxattr(path, "user.large", b"v" * 2000)
    assert os.getxattr(path, "user.colour") == b"green"
    assert set(os.listxattr(path)) - set(settled_names) == {"user.colour", "user.large"}
    assert "user.kvfs.record" not in os.listxattr(path)
    refused(errno.ENODATA, os.getxattr, path, "user.kvfs.record")
    refused(errno.EOPNOTSUPP, os.setxattr, path, "user.kvfs.record", b"x")
    refused(errno.EEXIST, os.setxattr, path, "user.colour", b"red", os.XATTR_CREATE)
    os.removexattr(path, "user.colour")
    refused(errno.ENODATA, os.getxattr, path, "user.colour")
    os.rename(path, here / "renamed")
    assert os.getxattr(here / "renamed", "user.large") == b"v" * 2000
    run("cp", "-a", here / "renamed", here / "copy")
    assert os.getxattr(here / "copy", "user.large") == b"v" * 2000


def make_tree(root: Path) -> None:
    for directory in ("one", "two/three", "empty"):
        (root / directory).mkdir(parents=True)
    for number, name in enumerate(["a", "one/b", "two/c", "two/three/d"]):
        (root / name).write_bytes(some_bytes(100_000 * number, number))
    os.symlink("../a", root / "one/link")
    os.chmod(root / "a", 0o600)
    os.utime(root / "two/c", (1e9, 1e9))


def assert_same(first: Path, second: Path) -> None:
    names = sorted(path.relative_to(first) for path in first.rglob("*"))
    assert names == sorted(path.relative_to(second) for path in second.rglob("*"))
    for name in names:
        one, two = os.lstat(first / name), os.lstat(second / name)
        assert one.st_mode == two.st_mode, name
        if stat.S_ISREG(one.st_mode):
            assert int(one.st_mtime) == int(two.st_mtime), name  # tar knows seconds
            assert filecmp.cmp(first / name, second / name, shallow=False), name


def test_programs_copy_trees_in_and_out(here, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    make_tree(source)
    run("cp", "-a", source, here / "cp")
    assert_same(source, here / "cp")
    run("rsync", "-aX", f"{source}/", here / "rsync")
    assert_same(source, here / "rsync")
    assert run("rsync", "-aXi", "--checksum", f"{source}/", here / "rsync") == ""
    run("tar", "-C", source.parent, "-cf", here / "tree.tar", "source")
    run("tar", "-C", here, "-xpf", here / "tree.tar")
    assert_same(source, here / "source")
    with tarfile.open(here / "tree.tar") as archive:
        assert "source/two/three/d" in archive.getnames()
    run("mv", here / "cp", here / "moved")
    run("cp", "-a", here / "moved", tmp_path / "out")
    assert_same(source, tmp_path / "out")
    assert run("diff", "-r", here / "rsync", here / "moved") == ""
    run("rm", "-r", here / "moved")
    assert not (here / "moved").exists()


def test_dd_with_o_direct(here):
    run("dd", "if=/dev/urandom", f"of={here}/a", "bs=1M", "count=8", "oflag=direct")
    run("dd", f"if={here}/a", f"of={here}/b", "bs=1M", "iflag=direct", "oflag=direct")
    assert filecmp.cmp(here / "a", here / "b", shallow=False)


@pytest.mark.parametrize("engine", ["psync", "mmap"])
def test_fio_verifies_what_it_wrote(here, engine):
    if shutil.which("fio") is None:
        pytest.fail("fio is not there: run tools/setup")
    direct = ["--direct=1"] if engine == "psync" else []
    run(
        "fio",
        "--name=verify",
        f"--directory={here}",
        f"--ioengine={engine}",
        *direct,
        "--rw=randwrite",
        "--bs=64k",
        "--size=8M",
        "--numjobs=2",
        "--verify=crc32c",
        "--do_verify=1",
        "--verify_state_save=0",
        "--verify_fatal=1",
    )


def test_many_entries_are_listed_once_each(here):
    names = {f"entry-{number:05}" for number in range(5000)}
    for name in names:
        os.close(os.open(here / name, os.O_CREAT | os.O_WRONLY))
    listed = os.listdir(here)
    assert len(listed) == len(names)
    assert set(listed) == names
    removed = 0
    with os.scandir(here) as entries:
        for entry in entries:
            os.unlink(entry)
            removed += 1
    assert removed == len(names)
    assert os.listdir(here) == []


def test_threads_use_one_directory(daemon, here):
    """Writers, renamers, removers and readers at once; nobody sees another's bytes."""
    wrong: list[str] = []

    def work(number: int) -> None:
        choose = random.Random(number)
        content = bytes([number]) * 50_000
        mine = here / f"directory-{number}"
        mine.mkdir()
        for turn in range(120):
            path = mine / f"{choose.randrange(8)}"
            action = choose.randrange(5)
            try:
                if action == 0:
                    (mine / f"t{turn}").write_bytes(content)
                    os.rename(mine / f"t{turn}", path)
                elif action == 1:
                    path.write_bytes(content)
                elif action == 2:
                    os.unlink(path)
                elif action == 3:
                    moved = here / f"moved-{number}"
                    os.rename(mine, moved)
                    os.rename(moved, mine)
                elif path.read_bytes() != content:
                    wrong.append(f"{path}: other bytes")
            except FileNotFoundError:
                pass
            except OSError as error:
                wrong.append(f"{path}: {error}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    settled(daemon)
    assert not wrong
