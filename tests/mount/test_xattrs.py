import errno
import os

import pytest
from populate import run, store_prefix
from raw_client import expect_errno, hex_of


def test_list_and_get(ns, prefix):
    attrs = {name: os.getxattr(prefix.path, name).decode() for name in os.listxattr(prefix.path)}
    parent = attrs.pop("user.kvfs.parent")
    assert len(parent) == 32
    assert attrs.pop("user.kvfs.tiers").startswith("dram:8")
    assert attrs == {
        "user.kvfs.tokens": "128",
        "user.kvfs.blocks": "8",
        "user.kvfs.hits": "0",
        "user.kvfs.model": "test/tiny",
        "user.kvfs.pinned": "0",
    }
    assert 'user.kvfs.tokens="128"' in run("getfattr", "-d", prefix.path)


def test_one_block_has_no_parent(ns):
    one = store_prefix(ns, 1, seed=4)
    with expect_errno(errno.ENODATA):
        os.getxattr(one.path, "user.kvfs.parent")
    assert "user.kvfs.parent" not in os.listxattr(one.path)


def test_pin(ns, prefix):
    run("setfattr", "-n", "user.kvfs.pinned", "-v", "1", prefix.path)
    assert os.getxattr(prefix.path, "user.kvfs.pinned") == b"1"
    ns.control(op="evict", all=True)
    assert os.path.exists(prefix.path)
    with expect_errno(errno.EBUSY):
        os.unlink(prefix.path)
    run("setfattr", "-x", "user.kvfs.pinned", prefix.path)
    assert os.getxattr(prefix.path, "user.kvfs.pinned") == b"0"
    os.unlink(prefix.path)
    assert not os.path.exists(prefix.path)


@pytest.mark.parametrize("value", [b"", b"2", b"yes", b"1\n"])
def test_pin_takes_0_or_1(prefix, value):
    with expect_errno(errno.EINVAL):
        os.setxattr(prefix.path, "user.kvfs.pinned", value)


def test_label(prefix):
    name = "user.kvfs.label"
    with expect_errno(errno.ENODATA):
        os.getxattr(prefix.path, name)
    with expect_errno(errno.ENODATA):
        os.removexattr(prefix.path, name)
    with expect_errno(errno.ENODATA):
        os.setxattr(prefix.path, name, b"x", os.XATTR_REPLACE)
    os.setxattr(prefix.path, name, "système".encode(), os.XATTR_CREATE)
    with expect_errno(errno.EEXIST):
        os.setxattr(prefix.path, name, b"x", os.XATTR_CREATE)
    assert os.getxattr(prefix.path, name).decode() == "système"
    assert name in os.listxattr(prefix.path)
    os.removexattr(prefix.path, name)
    with expect_errno(errno.ENODATA):
        os.getxattr(prefix.path, name)


def test_what_is_the_stores_to_say(prefix):
    for name in ("tokens", "blocks", "tiers", "hits", "model", "parent"):
        with expect_errno(errno.EPERM):
            os.setxattr(prefix.path, f"user.kvfs.{name}", b"1")
    with expect_errno(errno.EPERM):
        os.removexattr(prefix.path, "user.kvfs.hits")
    with expect_errno(errno.EOPNOTSUPP):
        os.setxattr(prefix.path, "user.other", b"1")
    with expect_errno(errno.ENODATA):
        os.getxattr(prefix.path, "user.other")


def test_namespace_directory(ns, prefix):
    assert os.getxattr(ns.path, "user.kvfs.model") == b"test/tiny"
    assert os.getxattr(ns.path, "user.kvfs.blocks") == b"8"
    assert b'"block_tokens":16' in os.getxattr(ns.path, "user.kvfs.geometry")
    assert os.listxattr(ns.path) == ["user.kvfs.model", "user.kvfs.blocks", "user.kvfs.geometry"]


def test_through_a_name(ns, prefix):
    os.symlink(f"{hex_of(prefix.key)}.safetensors", f"{ns.path}/sys")
    assert os.getxattr(f"{ns.path}/sys", "user.kvfs.blocks") == b"8"
    assert os.listxattr(f"{ns.path}/sys", follow_symlinks=False) == []
