"""Copying prefix files in."""

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from populate import GEOMETRY, run, store_prefix
from raw_client import expect_errno, hex_of


@pytest.fixture
def exported(ns, tmp_path):
    """A prefix that was copied out and evicted: its file, and what it is."""
    prefix = store_prefix(ns, 8)
    path = tmp_path / os.path.basename(prefix.path)
    shutil.copyfile(prefix.path, path)
    os.unlink(prefix.path)
    return path, prefix


def write_file(path: str, content: bytes) -> None:
    """Without the buffering that would hide close(2)'s error."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)


def test_cp_in(ns, exported):
    path, prefix = exported
    run("cp", path, prefix.path)
    assert Path(prefix.path).read_bytes() == path.read_bytes()
    assert ns.load(prefix.key) == [b[0] for b in prefix.blocks]
    assert os.listdir(ns.path) == [path.name]


def test_cp_in_under_another_name_becomes_a_symlink(ns, exported):
    path, _prefix = exported
    run("cp", path, f"{ns.path}/prompt.safetensors")
    assert os.readlink(f"{ns.path}/prompt.safetensors") == path.name
    assert Path(f"{ns.path}/prompt.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "command",
    [
        ("cp", "-p"),
        ("cp", "-a"),
        ("rsync",),
        ("rsync", "-a"),
        ("rsync", "-a", "--inplace"),
        ("install", "-m", "644"),
        ("mv",),
        ("dd",),
        ("sh",),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("named", [False, True], ids=["by key", "by name"])
def test_programs_that_copy(ns, exported, command, named):
    path, prefix = exported
    target = f"{ns.path}/named" if named else prefix.path
    content = path.read_bytes()
    if command[0] == "dd":
        run("dd", f"if={path}", f"of={target}", "bs=10k", "conv=fsync")
    elif command[0] == "sh":
        run("sh", "-c", f"cat {path} > {target}")
    else:
        run(*command, path, target)
    assert Path(prefix.path).read_bytes() == content
    assert os.path.islink(target) == named
    assert sorted(os.listdir(ns.path)) == sorted(
        {os.path.basename(prefix.path), os.path.basename(target)}
    )


def test_tar_in(ns, exported):
    path, prefix = exported
    run("tar", "-cf", f"{path}.tar", "-C", path.parent, path.name)
    run("tar", "-xf", f"{path}.tar", "-C", ns.path)
    assert Path(prefix.path).read_bytes() == path.read_bytes()


def corruptions(content: bytes, block_bytes: int) -> dict[str, bytes]:
    header = int.from_bytes(content[:8], "little") + 8

    def flip(at: int) -> bytes:
        return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]

    checksums = header + 8 * block_bytes
    return {
        "truncated": content[:-1],
        "truncated to a block": content[: header + block_bytes],
        "header only": content[:header],
        "four bytes": content[:4],
        "padded": content + b"\0",
        "a bit of a block": flip(header + 3 * block_bytes + 17),
        "a checksum": flip(checksums + 3),
        "a token": flip(len(content) - 5),
        "an extra": flip(checksums + 8 * 8 + 1),
        "the header": flip(20),
        "the header's length": flip(0),
        "not safetensors": b"hello, world\n" * 1000,
        "zeros": bytes(len(content)),
    }


@pytest.mark.parametrize("kind", list(corruptions(bytes(400000), 16384)))
def test_wrong_files_are_refused_at_close(daemon, ns, exported, kind):
    path, prefix = exported
    content = corruptions(path.read_bytes(), ns.block_bytes[0])[kind]
    seen = daemon.log.stat().st_size
    with expect_errno(errno.EINVAL):
        write_file(prefix.path, content)
    assert os.listdir(ns.path) == []
    assert ns.control(op="list")["prefixes"] == []
    log = daemon.log.read_text()[seen:]
    assert f"import of {os.path.basename(ns.path)}/{path.name}: " in log


@pytest.mark.parametrize("where", ["header", "geometry"])
def test_what_is_deeply_nested_is_refused(ns, where):
    depth = 400_000
    deep = b"[" * depth + b"]" * depth
    if where == "header":
        header = b'{"__metadata__":{"a":' + deep + b"}}"
    else:
        geometry = b'{\\"model\\":' + deep + b"}"
        header = b'{"__metadata__":{"format":"kvfs.prefix.v1","geometry":"' + geometry + b'"}}'
    header += b" " * (-(len(header) + 8) % 4096)
    with expect_errno(errno.EINVAL):
        write_file(f"{ns.path}/deep", len(header).to_bytes(8, "little") + header)


def test_cp_reports_the_refusal(ns, exported, tmp_path):
    path, _ = exported
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(path.read_bytes()[:-1])
    run("cp", bad, f"{ns.path}/x", status=1)
    assert os.listdir(ns.path) == []


def test_two_may_copy_in_the_same_file(ns, exported):
    path, prefix = exported
    content = path.read_bytes()
    half = len(content) // 2
    target = f"{ns.path}/{path.name}"
    first = os.open(target, os.O_CREAT | os.O_WRONLY)
    second = os.open(target, os.O_WRONLY)
    for descriptor, part in ((first, content), (second, content[:half])):
        assert os.pwrite(descriptor, part, 0) == len(part)
    os.close(first)  # stores it
    assert os.pwrite(second, content[half:], half) == len(content) - half
    os.close(second)
    assert ns.load(prefix.key) == [b[0] for b in prefix.blocks]


def test_a_key_name_must_be_the_keys(ns, exported):
    path, _prefix = exported
    other = f"{ns.path}/{'a' * 32}.safetensors"
    with expect_errno(errno.EINVAL):
        write_file(other, path.read_bytes())
    assert not os.path.lexists(other)


def test_another_geometry_is_refused(make_ns, exported):
    path, _ = exported
    other = make_ns({**GEOMETRY, "model": "test/other"})
    with expect_errno(errno.EINVAL):
        write_file(f"{other.path}/{path.name}", path.read_bytes())


def test_what_is_cached_already_cannot_be_written_over(ns, prefix):
    with expect_errno(errno.EEXIST):
        os.open(prefix.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    with expect_errno(errno.EACCES):
        os.open(prefix.path, os.O_WRONLY | os.O_CREAT)


def test_again_under_a_name(ns, prefix, tmp_path):
    shutil.copyfile(prefix.path, tmp_path / "copy")
    run("cp", tmp_path / "copy", f"{ns.path}/again")
    assert os.readlink(f"{ns.path}/again") == os.path.basename(prefix.path)


def test_several_closes(ns, exported):
    path, prefix = exported
    content = path.read_bytes()
    fd = os.open(prefix.path, os.O_WRONLY | os.O_CREAT, 0o644)
    os.close(os.dup(fd))  # nothing written yet: no harm
    os.write(fd, content[:5000])
    with expect_errno(errno.EINVAL):
        os.close(os.dup(fd))  # not whole yet
    assert not ns.control(op="list")["prefixes"]
    os.pwrite(fd, content[5000:], 5000)
    os.close(os.dup(fd))
    assert ns.control(op="list")["prefixes"]
    os.close(fd)
    assert Path(prefix.path).read_bytes() == content


def test_changed_after_it_was_stored(ns, exported):
    path, prefix = exported
    fd = os.open(prefix.path, os.O_RDWR | os.O_CREAT, 0o644)
    os.write(fd, path.read_bytes())
    os.close(os.dup(fd))
    os.pwrite(fd, b"x", 9000)
    with expect_errno(errno.EINVAL):
        os.close(fd)
    assert Path(prefix.path).read_bytes() == path.read_bytes()


def test_reading_back_while_it_is_written(ns, exported):
    path, _prefix = exported
    content = path.read_bytes()
    fd = os.open(f"{ns.path}/half", os.O_RDWR | os.O_CREAT, 0o600)
    os.write(fd, content[:10000])
    assert os.fstat(fd).st_size == 10000
    assert os.pread(fd, 100, 5000) == content[5000:5100]
    assert os.listdir(ns.path) == ["half"]
    os.ftruncate(fd, 100)
    assert os.fstat(fd).st_size == 100
    with expect_errno(errno.EINVAL):
        os.close(fd)
    assert os.listdir(ns.path) == []


def test_others_may_look_while_it_is_written(ns, exported):
    path, prefix = exported
    content = path.read_bytes()
    fd = os.open(prefix.path, os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(fd, content[:5000])
    run("cmp", "-n", "5000", path, prefix.path)
    reader = os.open(prefix.path, os.O_RDONLY)
    os.fsync(reader)
    second = os.open(prefix.path, os.O_WRONLY)
    with expect_errno(errno.EINVAL):
        os.close(second)  # not whole yet, but the first may still complete it
    assert os.listdir(ns.path) == [path.name]
    os.pwrite(fd, content[5000:], 5000)
    os.close(reader)
    os.close(fd)
    assert ns.load(prefix.key) == [b[0] for b in prefix.blocks]
    assert Path(prefix.path).read_bytes() == content


def test_a_reader_does_not_keep_what_its_writer_left(ns, exported):
    path, _ = exported
    fd = os.open(f"{ns.path}/half", os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(fd, path.read_bytes()[:5000])
    with open(f"{ns.path}/half", "rb") as reader:
        with expect_errno(errno.EINVAL):
            os.close(fd)
        deadline = time.monotonic() + 5
        while os.listdir(ns.path):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert len(reader.read()) == 5000


def test_unlinked_while_it_is_written(ns, exported):
    path, _ = exported
    fd = os.open(f"{ns.path}/gone", os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(fd, path.read_bytes())
    os.unlink(f"{ns.path}/gone")
    os.close(fd)
    assert os.listdir(ns.path) == []
    assert ns.control(op="list")["prefixes"] == []


def test_a_killed_writer_leaves_nothing(ns, exported):
    path, _ = exported
    script = (
        "import os, sys, time; out = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT);"
        "os.write(out, open(sys.argv[1], 'rb').read()[:-10]);"
        "print('x', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, path, f"{ns.path}/half"], stdout=subprocess.PIPE
    )
    assert child.stdout.readline() == b"x\n"
    assert os.listdir(ns.path) == ["half"]
    child.kill()
    child.wait()
    deadline = time.monotonic() + 5
    while os.listdir(ns.path):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_elsewhere_files_cannot_be_created(daemon, ns):
    for directory in (
        daemon.mount,
        daemon.mount / ".kvfs",
        f"{ns.path}/.kvfs",
        f"{ns.path}/.kvfs/slabs",
    ):
        with expect_errno(errno.EPERM):
            os.open(f"{directory}/x", os.O_WRONLY | os.O_CREAT)


def test_two_groups(make_ns, tmp_path):
    groups = [
        {"layers": 2, "kv_heads": 2, "head_dim": 32},
        {"layers": 1, "kv_heads": 1, "head_dim": 64},
    ]
    ns = make_ns({"model": "test/two", "dtype": "F32", "block_tokens": 16, "groups": groups})
    prefix = store_prefix(ns, 5)
    shutil.copyfile(prefix.path, tmp_path / "out")
    os.unlink(prefix.path)
    run("cp", tmp_path / "out", prefix.path)
    assert Path(prefix.path).read_bytes() == (tmp_path / "out").read_bytes()


def test_a_prefix_longer_than_a_window(make_ns, tmp_path):
    """Of a windowed group the file has the window alone; a shorter prefix is then no hit."""
    groups = [
        {"layers": 1, "kv_heads": 1, "head_dim": 64},
        {"layers": 2, "kv_heads": 1, "head_dim": 64, "window": 32},
    ]
    ns = make_ns({"model": "test/window", "dtype": "F32", "block_tokens": 16, "groups": groups})
    prefix = store_prefix(ns, 6)
    content = Path(prefix.path).read_bytes()
    (tmp_path / "out").write_bytes(content)
    os.unlink(prefix.path)
    run("cp", tmp_path / "out", prefix.path)
    assert Path(prefix.path).read_bytes() == content
    header = int.from_bytes(content[:8], "little") + 8
    window = header + 6 * ns.block_bytes[0]
    assert content[window : window + 2 * ns.block_bytes[1]] == b"".join(
        b[1] for b in prefix.blocks[-2:]
    )
    shorter = ns.control(op="stat", key=hex_of(prefix.key))["parent"]
    with expect_errno(errno.ENOENT):
        os.open(f"{ns.path}/{shorter}.safetensors", os.O_RDONLY)
