"""The commands that speak to a daemon, on a real mount with two prefixes that share half."""

import json
import os
import pty
import select
import time

import pytest
from populate import GEOMETRY, make_blocks
from raw_client import Namespace
from shared_prefix import make_tokens
from support.daemon import Daemon

BLOCK = 16 << 10


def test_the_only_mount_is_found_or_chosen(kvfs, daemon, stored):
    names = kvfs("ns", "list", "--names", env={"KVFS_MOUNT": str(daemon.mount)}).out.split()
    assert stored.name in names


def test_status(on_mount, stored):
    status = on_mount("status", "--json").json
    assert status["tiers"]["dram"]["capacity"] == 256 << 20
    mine = next(ns for ns in status["namespaces"] if ns["name"] == stored.name)
    assert mine["blocks"] == 10
    assert mine["prefixes"] == 2
    out = on_mount("status").out
    assert "dram" in out
    assert "nvme" in out
    assert stored.name in out


def test_namespaces(on_mount, daemon):
    created = on_mount(
        "ns", "create", "made", "--layers", 2, "--kv-heads", 1, "--head-dim", 64, "--json"
    ).json
    assert created["created"] is True
    assert created["geometry"]["model"] == "made"
    assert (
        "was there"
        in on_mount("ns", "create", "made", "--layers", 2, "--kv-heads", 1, "--head-dim", 64).out
    )
    line = on_mount(
        "ns", "create", "made", "--layers", 3, "--kv-heads", 1, "--head-dim", 64, status=5
    ).err
    assert "layers is 3, the namespace has 2" in line
    entry = next(
        ns for ns in on_mount("ns", "list", "--json").json["namespaces"] if ns["name"] == "made"
    )
    assert entry["geometry"]["groups"][0]["layers"] == 2
    assert "made" in on_mount("ns", "list").out
    assert on_mount("ns", "rm", "made", "--json").json == {"name": "made", "blocks": 0}
    assert not (daemon.mount / "made").exists()
    assert "made" in on_mount("ns", "rm", "made", status=3).err


def test_a_packed_namespace(on_mount):
    shape = ("--layers", 32, "--kv-heads", 1, "--head-dim", 64, "--encoding", "packed")
    created = on_mount("ns", "create", "packed", *shape, "--json").json
    assert created["geometry"]["encoding"] == "packed"
    assert "BF16 packed" in on_mount("ns", "list").out
    status = on_mount("status", "--json").json
    mine = next(ns for ns in status["namespaces"] if ns["name"] == "packed")
    assert mine["encoding"] == "packed"
    assert mine["ratio"] == 32 / 24  # pages of 4 KiB
    assert "packed 1.33x" in on_mount("status").out
    on_mount("ns", "rm", "packed")


@pytest.mark.parametrize("encoding", ["fp8", "int8"])
def test_a_quantized_namespace(on_mount, encoding):
    shape = ("--layers", 32, "--kv-heads", 1, "--head-dim", 64, "--encoding", encoding)
    created = on_mount("ns", "create", encoding, *shape, "--json").json
    assert created["geometry"]["encoding"] == encoding
    assert f"BF16 {encoding}" in on_mount("ns", "list").out
    mine = next(
        ns for ns in on_mount("status", "--json").json["namespaces"] if ns["name"] == encoding
    )
    assert (mine["encoding"], mine["ratio"]) == (encoding, 32 / 17)  # pages of 4 KiB
    assert (mine["largest_error"], mine["saturated_planes"]) == (0, 0)
    assert f"{encoding} 1.88x" in on_mount("status").out
    on_mount("ns", "rm", encoding)
    refused = on_mount("ns", "create", "x", *shape, "--dtype", "I8", status=2).err
    assert "not I8" in refused and "use raw" in refused


PACKING_PAYS = [{"bench": "gpu_load_1gib", "value": 53}, {"bench": "gpu_load_packed", "value": 72}]
PACKING_COSTS = [{"bench": "cpu_load", "value": 21}, {"bench": "cpu_packed", "value": 6}]


@pytest.mark.parametrize(
    ("rows", "dtype", "encoding"),
    [
        (PACKING_PAYS + PACKING_COSTS, "BF16", "packed"),
        (PACKING_PAYS, "F32", "raw"),
        (PACKING_COSTS, "BF16", "raw"),
    ],
)
def test_a_measurement_chooses_the_encoding(on_mount, tmp_path, rows, dtype, encoding):
    bench = tmp_path / "bench.jsonl"
    bench.write_text("\n".join(map(json.dumps, rows)))
    shape = ("--layers", 2, "--kv-heads", 1, "--head-dim", 64, "--dtype", dtype)
    create = ("ns", "create", "chosen", *shape, "--bench", bench)
    made = on_mount(*create, "--json").json
    assert made["geometry"].get("encoding", "raw") == encoding
    assert on_mount(*create).out.endswith(f", {encoding}\n")
    on_mount("ns", "rm", "chosen")


def test_a_measurement_that_does_not_say_which_encoding(on_mount, tmp_path):
    bench = tmp_path / "bench.jsonl"
    bench.write_text("\n".join(map(json.dumps, [PACKING_PAYS[0], PACKING_COSTS[1]])))
    create = ("ns", "create", "x", "--layers", 2, "--kv-heads", 1, "--head-dim", 64)
    assert "whether packing pays" in on_mount(*create, "--bench", bench, status=2).err
    both = on_mount(*create, "--bench", bench, "--encoding", "raw", status=2).err
    assert "--encoding" in both


def test_namespace_from_files(on_mount, tmp_path):
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps(
            {
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "hidden_size": 256,
                "dtype": "float16",
            }
        )
    )
    made = on_mount(
        "ns", "create", "from-config", "--config", tmp_path, "--mode", "0750", "--json"
    ).json
    assert made["geometry"]["dtype"] == "F16"
    assert made["geometry"]["groups"][0]["kv_heads"] == 4
    geometry = tmp_path / "geometry.json"
    geometry.write_text(json.dumps(GEOMETRY | {"block_tokens": 32}))
    made = on_mount("ns", "create", "from-geometry", "--geometry", geometry, "--json").json
    assert made["geometry"]["block_tokens"] == 32
    hybrid = {
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "hidden_size": 256,
        "layer_types": ["mamba", "full_attention"],
    }
    config.write_text(json.dumps(hybrid))
    assert "recurrent state" in on_mount("ns", "create", "hybrid", "--config", config, status=2).err
    for name in ("from-config", "from-geometry"):
        on_mount("ns", "rm", name)


def test_ls_shows_what_is_shared(on_mount, stored):
    nodes = on_mount("ls", stored.name, "--json").json["namespaces"][0]["nodes"]
    assert sorted(node["blocks"] for node in nodes) == [4, 6, 8]
    parent = next(node["key"] for node in nodes if node["blocks"] == 4)
    assert {node["parent"] for node in nodes if node["key"] != parent} == {parent}
    lines = on_mount("ls", stored.name).out.splitlines()
    assert lines[0] == stored.name
    assert "64 tokens, shared by 2" in lines[1]
    assert lines[2].startswith(f"├─ {stored.short[:12]}")
    assert "96 tokens (+32)" in lines[2]
    assert lines[3].startswith(f"└─ {stored.long[:12]}")


def test_ls_flat(on_mount, stored):
    prefixes = on_mount("ls", stored.name, "--flat", "--json").json["namespaces"][0]["prefixes"]
    assert {prefix["key"] for prefix in prefixes} == {stored.short, stored.long}
    done = on_mount("ls", stored.name, "--flat", "--limit", 1)
    assert "more" in done.out
    assert len(done.out.splitlines()) == 3


def test_stat_by_key_beginning_name_and_path(on_mount, daemon, stored, kvfs):
    stat = on_mount("stat", f"{stored.name}/{stored.long}", "--json").json
    assert stat["blocks"] == 8
    assert stat["tokens"] == 128
    assert stat["namespace"] == stored.name
    assert stat["own_bytes"] == 4 * BLOCK
    assert stat["shared_bytes"] == 4 * BLOCK
    assert on_mount("stat", f"{stored.name}/{stored.long[:8]}", "--json").json["key"] == stored.long
    directory = daemon.mount / stored.name
    os.symlink(f"{stored.long}.safetensors", directory / "chat.safetensors")
    for name in (
        f"{stored.name}/chat",
        directory / "chat.safetensors",
        directory / f"{stored.long}.safetensors",
    ):
        assert on_mount("stat", name, "--json").json["key"] == stored.long
    # A path says by itself which mount is meant.
    assert kvfs("stat", directory / "chat.safetensors", "--json").json["names"] == [
        "chat.safetensors"
    ]
    assert "chat" in on_mount("stat", f"{stored.name}/chat").out


def test_stat_of_what_is_not_there(on_mount, stored):
    for ref in (f"{stored.name}/{'0' * 32}", f"{stored.name}/nothing", f"{stored.name}/abcd0123"):
        assert on_mount("stat", ref, status=3).err.startswith("kvfs: ")
    assert "has no namespace nowhere" in on_mount("stat", "nowhere/x", status=3).err
    assert "does not name a prefix" in on_mount("stat", f"{stored.name}/", status=2).err
    assert "not below a kvfs mount" in on_mount("stat", "/etc/hostname", status=3).err


def test_a_namespace_is_no_mount(kvfs, daemon, stored):
    line = kvfs.fails(3, "status", "--mount", daemon.mount / stored.name)
    assert "is not a kvfs mount" in line


def test_du(on_mount, stored):
    usage = on_mount("du", stored.name, "--json").json["namespaces"][0]
    assert usage["own_bytes"] == (2 + 4) * BLOCK
    assert usage["shared_bytes"] == 4 * BLOCK
    assert usage["logical_bytes"] > (6 + 8) * BLOCK
    first = on_mount("du", stored.name).out.splitlines()[1]
    assert stored.long in first
    assert "64 KiB" in first


def test_du_counts_what_slots_take(on_mount, daemon):
    """As the daemon does; a block of this geometry fills 1,280 bytes of its 4 KiB."""
    geometry = GEOMETRY | {"layers": 1, "kv_heads": 1, "head_dim": 20}
    assert daemon.control({"op": "ns_create", "name": "small", "geometry": geometry})["ok"]
    namespace = Namespace(f"{daemon.mount}/small")
    for seed in (2, 3):
        namespace.store(make_tokens(4, 1) + make_tokens(2, seed), make_blocks(namespace, 6))
    namespace.close()
    usage = on_mount("du", "small", "--json").json["namespaces"][0]
    assert usage["own_bytes"] == (2 + 2) * 4096
    assert usage["shared_bytes"] == 4 * 4096
    on_mount("ns", "rm", "small", "--force")


def test_match(on_mount, stored):
    tokens = stored.tokens[stored.long]
    found = on_mount("match", stored.name, *tokens, "--json").json
    assert found["blocks"] == 8
    assert found["key"] == stored.long
    assert found["dram_blocks"] == 8
    longer = json.dumps({"input_ids": [tokens + make_tokens(2, 9)]})
    assert on_mount("match", stored.name, "--json", input=longer).json["blocks"] == 8
    shared = " ".join(map(str, stored.shared + make_tokens(1, 9)))
    assert "64 of 80 tokens are cached" in on_mount("match", stored.name, input=shared).out
    assert on_mount("match", stored.name, 1, 2, 3, "--json", status=1).json["key"] is None
    assert "token 1 is 'x'" in on_mount("match", stored.name, 1, "x", status=2).err
    assert "token 0 is '-5'" in on_mount("match", stored.name, input="-5", status=2).err


def test_match_from_a_file(on_mount, stored, tmp_path):
    file = tmp_path / "tokens"
    file.write_text("\n".join(map(str, stored.tokens[stored.short])))
    assert on_mount("match", stored.name, "--file", file, "--json").json["key"] == stored.short
    assert "choose one" in on_mount("match", stored.name, 1, "--file", file, status=2).err


def test_pins_hold_against_eviction(on_mount, stored):
    ref = f"{stored.name}/{stored.long}"
    assert on_mount("pin", ref, "--json").json["prefixes"][0]["pinned"] is True
    assert on_mount("stat", ref, "--json").json["pinned"] is True
    assert on_mount("evict", ref, status=5)
    assert on_mount("unpin", ref).out == f"{ref}: unpinned\n"
    evicted = on_mount("evict", ref, "--json").json
    assert evicted["blocks"] == 4  # down to what the other prefix shares
    assert on_mount("stat", ref, status=3)
    assert on_mount("stat", f"{stored.name}/{stored.short}")


def test_evict_everything_asks_first(on_mount, stored):
    assert "--yes" in on_mount("evict", stored.name, "--all", status=2, input="").err
    assert on_mount("evict", stored.name, "--all", "--yes", "--json").json["blocks"] == 10
    assert on_mount("ls", stored.name).out == f"{stored.name}: empty\n"


def test_evict_from_a_tier_and_prefetch(on_mount, daemon, stored):
    ref = f"{stored.name}/{stored.long}"
    assert daemon.control({"op": "flush"})["ok"]
    on_mount("evict", stored.name, "--tier", "dram", "--bytes", "1GiB")
    assert on_mount("stat", ref, "--json").json["tiers"]["dram"] == 0
    assert on_mount("prefetch", ref, "--json").json["prefixes"][0]["blocks"] == 8
    deadline = time.monotonic() + 10
    while on_mount("stat", ref, "--json").json["tiers"]["dram"] < 8:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "all in DRAM" in on_mount("prefetch", ref).out


@pytest.mark.parametrize(
    "arguments",
    [["--tier", "dram"], ["--bytes", "1"], ["--all", "--tier", "dram", "--bytes", "1"], []],
)
def test_evict_options_that_do_not_fit(on_mount, arguments):
    assert on_mount("evict", *arguments, status=2).err


def test_verify(on_mount, daemon, stored):
    assert daemon.control({"op": "flush"})["ok"]
    checked = on_mount("verify", stored.name, "--step", 3, "--json").json
    assert checked["good"] is True
    assert checked["namespaces"][0]["checked"] >= 10
    assert "all good" in on_mount("verify", stored.name).out


def test_verify_finds_flipped_bits(on_mount, daemon, stored):
    """Flips a bit in each of the disk's segments behind the daemon's back."""
    assert daemon.control({"op": "flush"})["ok"]
    on_mount("evict", stored.name, "--tier", "dram", "--bytes", "1GiB")
    block = bytes([7 % 251]) * BLOCK  # block 7 of the longer prefix is all sevens
    flipped = 0
    for segment in (daemon.disk / "segments").glob("*.seg"):
        content = segment.read_bytes()
        at = content.find(block)
        while at >= 0:
            with segment.open("r+b") as file:
                file.seek(at + 100)
                file.write(b"\xff")
            flipped += 1
            at = content.find(block, at + BLOCK)
    assert flipped >= 1
    bad = on_mount("verify", stored.name, "--json", status=1).json
    assert bad["good"] is False
    assert stored.long in {block["key"] for block in bad["namespaces"][0]["bad"]}
    # Dropped, so that nobody loads it.
    assert on_mount("verify", stored.name, status=0)
    assert on_mount("match", stored.name, *stored.tokens[stored.long], "--json").json["blocks"] == 7


def test_verify_on_a_disk_that_does_not_give_its_bytes(kvfs, bin_dir, tmp_path):
    """Its segments are cut off, as a file system that lost them would have it."""
    own = Daemon(bin_dir, tmp_path, dram="16MiB", nvme="128MiB", flags=["--slab", "2MiB"]).start()
    try:
        assert own.control({"op": "ns_create", "name": "a", "geometry": GEOMETRY})["ok"]
        namespace = Namespace(f"{own.mount}/a")
        tokens = make_tokens(3, 1)
        namespace.store(tokens, [[bytes(size) for size in namespace.block_bytes]] * 3)
        namespace.control(op="flush")
        for segment in (own.disk / "segments").glob("*.seg"):
            os.truncate(segment, 0)
        shown = kvfs("verify", "a", "--mount", own.mount, status=6)
        assert "3 could not be read on NVMe and stay; the first: reading" in shown.out
        assert ".seg" in shown.out
        found = kvfs("verify", "--mount", own.mount, "--json", status=6).json
        assert found["good"] is False
        assert [len(found["namespaces"][0][what]) for what in ("bad", "unread")] == [0, 3]
        # Three more, and it is the disk: an error, at once.
        error = kvfs.fails(6, "verify", "--mount", own.mount)
        assert "the NVMe tier is out of use after repeated errors" in error
        assert "mend the disk" in error
        namespace.close()
    finally:
        own.remove()


def test_top_once(on_mount, stored):
    out = on_mount("top", "--once", "--interval", 0.1).out
    assert stored.name in out
    assert "B/s" in out
    both = on_mount("top", "--once", "--interval", 0.1, "--json").json
    assert both["seconds"] >= 0.1
    assert both["before"]["tiers"].keys() == both["now"]["tiers"].keys()


def test_top_live_quits_on_q(kvfs, daemon, stored):
    child, terminal = pty.fork()
    if child == 0:
        os.environ["TERM"] = "xterm"
        os.execv(kvfs.program, ["kvfs", "top", "--interval", "0.1", "--mount", str(daemon.mount)])
    seen = b""
    deadline = time.monotonic() + 20
    while seen.count(b"q quits") < 2 and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.5)[0]:
            seen += os.read(terminal, 65536)
    os.write(terminal, b"q")
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # the terminal is gone with the program
            break
        if not piece:
            break
        seen += piece
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(terminal)
    assert b"ns-test" in seen  # the name may be cut to the terminal
    assert seen.endswith(b"\x1b[?25h\x1b[?1049l")  # the screen is given back


def test_size_against_the_mounts_tiers(on_mount):
    fits = on_mount("size", "--layers", 2, "--kv-heads", 2, "--head-dim", 64, "--json").json["fits"]
    assert fits[0] == {"tier": "dram", "bytes": 256 << 20, "tokens": (256 << 20) // BLOCK * 16}
    assert fits[1]["tier"] == "nvme"
