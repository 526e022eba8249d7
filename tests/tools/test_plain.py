"""The command on plain directories."""

import os
import time

import pytest


@pytest.fixture
def directory(daemon):
    path = daemon.mount / "of-an-engine"
    path.mkdir()
    os.setxattr(path, "user.kvfs.quota", b"16MiB")
    (path / "chunk").write_bytes(b"bytes" * 1000)
    (path / "chunk").read_bytes()
    yield path
    for file in path.iterdir():
        file.unlink()
    path.rmdir()


def test_status_shows_them(on_mount, directory):
    out = on_mount("status").out
    line = next(line for line in out.splitlines() if line.startswith(directory.name))
    assert "16 MiB" in line
    assert "100.0 %" in line  # of the files that were looked for
    shown = on_mount("status", "--json").json["plain"]["directories"]
    assert [one["name"] for one in shown] == [directory.name]
    assert directory.name not in on_mount("ns", "list").out


def test_verify(on_mount, daemon, directory):
    verified = on_mount("verify", directory.name, "--json").json
    assert verified["good"] is True
    assert verified["directories"][0]["checked"] == 1
    assert f"{directory.name}: 1 files" in on_mount("verify").out
    below = daemon.root / "disk.plain/files" / directory.name / "chunk"
    status = below.stat()
    below.write_bytes(b"other" * 1000)
    os.utime(below, ns=(status.st_atime_ns, status.st_mtime_ns))
    with (directory / "chunk").open("rb"):
        out = on_mount("verify", directory.name, status=1).out
        assert "1 bad, 0 dropped" in out
        assert "chunk: in use" in out
        assert (directory / "chunk").exists()
    assert "1 bad, 1 dropped" in on_mount("verify", directory.name, status=1).out
    deadline = time.monotonic() + 30  # the kernel hears of it behind the answer
    while (directory / "chunk").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not (directory / "chunk").exists()
    assert on_mount("verify", "nothing-of-that-name", status=None).status != 0
