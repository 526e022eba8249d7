import errno
import os
import stat

import pytest
from populate import run, store_prefix
from raw_client import expect_errno, hex_of


def target(prefix) -> str:
    return f"{hex_of(prefix.key)}.safetensors"


def test_ln_s(ns, prefix):
    run("ln", "-s", target(prefix), f"{ns.path}/system-prompt.safetensors")
    link = f"{ns.path}/system-prompt.safetensors"
    assert os.readlink(link) == target(prefix)
    assert stat.S_ISLNK(os.lstat(link).st_mode)
    assert os.stat(link).st_ino == os.stat(prefix.path).st_ino
    with open(link, "rb") as by_name, open(prefix.path, "rb") as by_key:
        assert by_name.read() == by_key.read()
    assert sorted(os.listdir(ns.path)) == sorted([target(prefix), "system-prompt.safetensors"])
    assert ns.control(op="stat", name="system-prompt.safetensors")["key"] == hex_of(prefix.key)
    run("rm", link)
    assert os.listdir(ns.path) == [target(prefix)]


@pytest.mark.parametrize(
    "wrong",
    [
        "/etc/passwd",
        "../other",
        "x.safetensors",
        "0" * 31 + ".safetensors",
        "./" + "0" * 32 + ".safetensors",
    ],
)
def test_names_point_into_their_own_directory(ns, wrong):
    with expect_errno(errno.EINVAL):
        os.symlink(wrong, f"{ns.path}/name")


def test_a_name_needs_a_cached_prefix(ns):
    with expect_errno(errno.ENOENT):
        os.symlink("0" * 32 + ".safetensors", f"{ns.path}/name")


def test_names_that_cannot_be(ns, prefix):
    with expect_errno(errno.EEXIST):
        os.symlink(target(prefix), prefix.path)
    with expect_errno(errno.EINVAL):
        os.symlink(target(prefix), f"{ns.path}/{'f' * 32}.safetensors")
    with expect_errno(errno.EEXIST):
        os.symlink(target(prefix), f"{ns.path}/.kvfs")
    os.symlink(target(prefix), f"{ns.path}/once")
    with expect_errno(errno.EEXIST):
        os.symlink(target(prefix), f"{ns.path}/once")


@pytest.mark.parametrize("name", [b"caf\xe9", b"\xff", b"two\nlines"])
def test_names_are_lines_of_utf8(daemon, ns, prefix, name):
    """Whoever lists them gets JSON."""
    path = os.path.join(os.fsencode(ns.path), name)
    with expect_errno(errno.EINVAL):
        os.symlink(target(prefix).encode(), path)
    with expect_errno(errno.EINVAL), open(path, "wb"):
        pass
    os.symlink(target(prefix), f"{ns.path}/good")
    with open(f"{ns.path}/copying", "wb"):
        for good in ("good", "copying"):
            with expect_errno(errno.EINVAL):
                os.rename(f"{ns.path}/{good}".encode(), path)
    if b"\n" not in name:
        with expect_errno(errno.EINVAL):
            os.setxattr(prefix.path, "user.kvfs.label", name)
    with expect_errno(errno.EINVAL):
        os.rename(ns.path, os.path.join(os.fsencode(daemon.mount), name))
    assert ns.control(op="list")["prefixes"]
    assert ns.control(op="stat", key=hex_of(prefix.key))["label"] == ""


def test_mv(ns, prefix):
    other = store_prefix(ns, 3, seed=8)
    os.symlink(target(prefix), f"{ns.path}/a")
    os.symlink(target(other), f"{ns.path}/b")
    run("mv", f"{ns.path}/a", f"{ns.path}/c")
    assert os.readlink(f"{ns.path}/c") == target(prefix)
    assert not os.path.lexists(f"{ns.path}/a")
    os.rename(f"{ns.path}/c", f"{ns.path}/b")  # replaces
    assert os.readlink(f"{ns.path}/b") == target(prefix)
    assert not os.path.lexists(f"{ns.path}/c")


def test_ln_sf_replaces(ns, prefix):
    other = store_prefix(ns, 3, seed=8)
    run("ln", "-s", target(prefix), f"{ns.path}/now")
    run("ln", "-sfn", target(other), f"{ns.path}/now")
    assert os.readlink(f"{ns.path}/now") == target(other)


def test_a_name_does_not_become_a_prefix(ns, prefix):
    os.symlink(target(prefix), f"{ns.path}/a")
    with expect_errno(errno.EINVAL):
        os.rename(f"{ns.path}/a", f"{ns.path}/{'e' * 32}.safetensors")
    os.rename(f"{ns.path}/a", prefix.path)  # its own: nothing is left of the name
    assert os.listdir(ns.path) == [target(prefix)]
    assert stat.S_ISREG(os.lstat(prefix.path).st_mode)


def test_dangling_after_rm(ns, prefix):
    os.symlink(target(prefix), f"{ns.path}/a")
    os.unlink(prefix.path)
    assert os.path.lexists(f"{ns.path}/a")
    assert not os.path.exists(f"{ns.path}/a")
