"""Ordinary programs on a mount."""

import hashlib
import os
import re
import tarfile
from pathlib import Path

import pytest
from populate import run, store_prefix
from raw_client import hex_of


@pytest.fixture
def two(ns):
    """Two prefixes that share their first 4 blocks, and one of its own."""
    from populate import make_blocks, make_tokens

    tokens, blocks = make_tokens(8), make_blocks(ns, 8)
    first = ns.store(tokens, blocks)
    other_tokens = tokens[: 4 * 16] + make_tokens(4, seed=9)
    other = ns.store(other_tokens, blocks[:4] + make_blocks(ns, 4, seed=9))
    return ns, ns.file(first), ns.file(other)


def sha256(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_ls(two):
    ns, first, other = two
    assert set(run("ls", ns.path).split()) == {os.path.basename(first), os.path.basename(other)}
    lines = run("ls", "-l", "--time-style=long-iso", ns.path).splitlines()[1:]
    sizes = {line.split()[-1]: int(line.split()[4]) for line in lines}
    assert sizes[os.path.basename(first)] == os.path.getsize(first)
    assert all(line.startswith("-r--r--r--") for line in lines)
    assert ".kvfs" not in run("ls", "-A", ns.path)
    assert set(run("ls", f"{ns.path}/.kvfs").split()) == {
        "geometry.json",
        "stats.json",
        "index",
        "slabs",
        "reserve",
        "control",
    }


def test_du_counts_what_removing_would_free(two):
    ns, first, other = two
    own = 4 * ns.slot_bytes[0]
    for path in (first, other):
        assert int(run("du", "-B1", path).split()[0]) == own
        assert int(run("du", "-B1", "--apparent-size", path).split()[0]) == os.path.getsize(path)
    assert int(run("du", "-sB1", ns.path).split()[0]) == 2 * own


def test_df(daemon, ns):
    def used() -> int:
        return int(run("df", "-B1", "--output=used", daemon.mount).split()[1])

    size = int(run("df", "-B1", "--output=size", daemon.mount).split()[1])
    assert size == (256 + 512) << 20  # DRAM and NVMe together
    before = used()
    store_prefix(ns, 64, seed=77)
    assert used() - before >= 64 * ns.slot_bytes[0]
    assert run("df", "--output=fstype", daemon.mount).split()[1] == "fuse.kvfs"
    assert int(run("df", "--output=iused", daemon.mount).split()[1]) >= 64


@pytest.mark.parametrize(
    "command", [("cp",), ("cp", "--reflink=auto"), ("cp", "-a"), ("dd", "bs=100k")]
)
def test_copying_out(two, tmp_path, command):
    _, first, _ = two
    target = tmp_path / "out"
    if command[0] == "dd":
        run(*command, f"if={first}", f"of={target}")
    else:
        run(*command, first, target)
    assert sha256(target) == sha256(first)


def test_tar_and_rsync_and_cp_take_a_whole_namespace(two, tmp_path):
    ns, first, other = two
    names = {os.path.basename(first), os.path.basename(other)}
    run("tar", "-cf", tmp_path / "all.tar", "-C", ns.path, ".")
    with tarfile.open(tmp_path / "all.tar") as tar:
        files = {os.path.basename(m.name): m for m in tar.getmembers() if m.isfile()}
        assert set(files) == names
        data = tar.extractfile(files[os.path.basename(first)]).read()
    assert hashlib.sha256(data).hexdigest() == sha256(first)
    run("rsync", "-a", f"{ns.path}/", tmp_path / "rsync")
    run("cp", "-r", ns.path, tmp_path / "cp")
    for copy in ("rsync", "cp"):
        assert set(os.listdir(tmp_path / copy)) == names
        assert sha256(tmp_path / copy / os.path.basename(other)) == sha256(other)
    # A second run finds nothing to do.
    assert "safetensors" not in run("rsync", "-ai", f"{ns.path}/", tmp_path / "rsync")


def test_sha256sum_head_stat_find(two):
    ns, first, _ = two
    assert run("sha256sum", first).split()[0] == sha256(first)
    head = int(run("sh", "-c", f"head -c 8 {first} | od -An -tu8"))
    assert (head + 8) % 4096 == 0
    assert int(run("stat", "-c", "%s", first)) == os.path.getsize(first)
    assert len(run("find", ns.path, "-type", "f").split()) == 2
    assert run("find", ns.path, "-size", "+100M") == ""
    assert run("find", ns.path, "-inum", os.stat(first).st_ino).split() == [first]


def test_grep_and_cmp(two, tmp_path):
    _, first, other = two
    run("cp", first, tmp_path / "a")
    run("cmp", first, tmp_path / "a")
    run("cmp", "-s", first, other, status=1)
    assert run("grep", "-a", "-c", "kvfs.prefix.v1", first).strip() == "1"


def test_rm_evicts_and_rm_rf_empties(two):
    ns, first, other = two
    run("rm", "-f", first)
    assert run("ls", ns.path).split() == [os.path.basename(other)]
    assert (
        ns.control(op="stat", key=os.path.basename(other).split(".")[0])["own_bytes"]
        == 8 * ns.slot_bytes[0]
    )
    run("sh", "-c", f"rm -rf {ns.path}/*")
    assert run("ls", ns.path) == ""


def test_rmdir_and_mkdir(daemon, ns):
    run("mkdir", f"{ns.path}/new", status=1)
    store_prefix(ns, 2, seed=3)
    run("rmdir", ns.path, status=1)


def test_mv_of_a_namespace(daemon, ns, prefix):
    other = f"{daemon.mount}/moved"
    run("mv", ns.path, other)
    try:
        assert os.path.exists(f"{other}/{hex_of(prefix.key)}.safetensors")
        assert not os.path.exists(ns.path)
        assert "moved" in os.listdir(daemon.mount)
    finally:
        run("mv", other, ns.path)


def test_version_and_config(daemon):
    assert re.match(
        r"kvfs \d+\.\d+\.\d+ \(abi 4, index 3\)\n$", (daemon.mount / ".kvfs/version").read_text()
    )
    config = run("cat", daemon.mount / ".kvfs/config.toml")
    assert f'mountpoint = "{daemon.mount}"' in config
    assert os.path.getsize(daemon.mount / ".kvfs/config.toml") == len(config)
