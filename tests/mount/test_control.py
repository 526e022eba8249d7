"""The control files of lib/format/control.md."""

import errno
import json
import os
import time

import pytest
from populate import GEOMETRY, make_blocks, make_tokens, remove_namespace, run, store_prefix
from raw_client import ControlError, control, expect_errno, hex_of


def store(daemon, **request):
    return control(f"{daemon.mount}/.kvfs/control", **request)


def refused(code: str, call, **request) -> str:
    with pytest.raises(ControlError) as error:
        call(**request)
    assert error.value.code == code, error.value
    return str(error.value)


def test_ns_create_is_idempotent_and_names_differences(daemon, ns):
    name = os.path.basename(ns.path)
    assert store(daemon, op="ns_create", name=name, geometry=GEOMETRY)["created"] is False
    with pytest.raises(ControlError, match="layers"):
        store(daemon, op="ns_create", name=name, geometry={**GEOMETRY, "layers": 3})


@pytest.mark.parametrize(
    "request_",
    [
        {"op": "ns_create"},
        {"op": "ns_create", "name": "x"},
        {"op": "ns_create", "name": "a/b", "geometry": GEOMETRY},
        {"op": "ns_create", "name": ".kvfs", "geometry": GEOMETRY},
        {"op": "ns_create", "name": "", "geometry": GEOMETRY},
        {"op": "ns_create", "name": "x", "geometry": {**GEOMETRY, "colour": 1}},
        {"op": "ns_create", "name": "x", "geometry": GEOMETRY, "mode": 4096},
        {"op": "ns_create", "name": "x", "geometry": GEOMETRY, "size": 1},
        {"op": "ns_remove", "name": 3},
        {"op": "fly"},
        {"op": 3},
        {},
        [],
        3,
    ],
    ids=str,
)
def test_bad_requests_to_the_store(daemon, request_):
    fd = os.open(f"{daemon.mount}/.kvfs/control", os.O_RDWR)
    os.write(fd, json.dumps(request_).encode())
    answer = json.loads(os.read(fd, 65536))
    os.close(fd)
    assert answer["ok"] is False
    assert answer["code"] == "invalid"
    assert answer["error"]


def test_requests_that_are_no_json(daemon):
    fd = os.open(f"{daemon.mount}/.kvfs/control", os.O_RDWR)
    os.write(fd, b"{hello")
    answer = json.loads(os.read(fd, 65536))
    assert answer["code"] == "invalid"
    os.write(fd, b'{"op": "config"}')  # the descriptor goes on
    assert json.loads(os.read(fd, 65536))["ok"]
    os.write(fd, b'{"op":')  # in two pieces
    os.write(fd, b' "config"}')
    assert json.loads(os.read(fd, 65536))["ok"]
    assert os.read(fd, 65536) == b""
    with expect_errno(errno.E2BIG):
        request = memoryview(b'"' + b"x" * (1 << 20))
        while request:
            request = request[os.write(fd, request) :]
    os.close(fd)


@pytest.mark.parametrize("request_", [b'{"op":%s}', b'{"op":"stat","key":%s}', b"%s"])
def test_deeply_nested_requests(daemon, ns, request_):
    nested = request_ % (b"[" * 500_000 + b"]" * 500_000)
    for path in (f"{daemon.mount}/.kvfs/control", f"{ns.path}/.kvfs/control"):
        fd = os.open(path, os.O_RDWR)
        os.write(fd, nested)
        assert json.loads(os.read(fd, 65536))["code"] == "invalid"
        os.close(fd)


def test_config(daemon):
    config = store(daemon, op="config")["config"]
    assert config["mountpoint"] == str(daemon.mount)
    assert config["dram"] == "256MiB"


def test_from_the_shell(daemon, ns):
    run("sh", "-c", f'exec 3<>{ns.path}/.kvfs/control; echo \'{{"op":"list"}}\' >&3; cat <&3')
    out = run(
        "sh", "-c", f'exec 3<>{ns.path}/.kvfs/control; echo \'{{"op":"list"}}\' >&3; head -1 <&3'
    )
    assert json.loads(out)["prefixes"] == []


def test_ns_remove(daemon, make_ns):
    assert refused("not_found", lambda **r: store(daemon, **r), op="ns_remove", name="nothing")
    store(daemon, op="ns_create", name="victim", geometry=GEOMETRY)
    from raw_client import Namespace

    victim = Namespace(f"{daemon.mount}/victim")
    prefix = store_prefix(victim, 3)
    victim.control(op="pin", key=hex_of(prefix.key))
    refused("busy", lambda **r: store(daemon, **r), op="ns_remove", name="victim")
    with open(prefix.path, "rb"):
        refused("busy", lambda **r: store(daemon, **r), op="ns_remove", name="victim", force=True)
    victim.close()
    assert remove_namespace(daemon, "victim")["blocks"] == 3
    assert not os.path.exists(f"{daemon.mount}/victim")


def test_rmdir_of_an_empty_namespace(daemon):
    store(daemon, op="ns_create", name="empty", geometry=GEOMETRY)
    run("rmdir", f"{daemon.mount}/empty")
    assert "empty" not in os.listdir(daemon.mount)


def test_stat(ns, prefix):
    ns.control(op="pin", key=hex_of(prefix.key))
    os.setxattr(prefix.path, "user.kvfs.label", b"system")
    os.symlink(os.path.basename(prefix.path), f"{ns.path}/sys")
    stat = ns.control(op="stat", name="sys")
    assert stat["key"] == hex_of(prefix.key)
    assert (stat["blocks"], stat["tokens"]) == (8, 128)
    assert stat["file_bytes"] == os.path.getsize(prefix.path)
    assert stat["pinned"] is True
    assert stat["label"] == "system"
    assert stat["names"] == ["sys"]
    assert stat["leaf"] is True
    assert stat["leases"] == 0
    assert stat["own_bytes"] == 8 * ns.slot_bytes[0]
    assert stat["shared_bytes"] == 0
    ns.control(op="unpin", name="sys")
    assert ns.control(op="stat", name="sys")["pinned"] is False
    refused("not_found", ns.control, op="stat", key="0" * 32)
    refused("invalid", ns.control, op="stat", key="xyz")
    refused("not_found", ns.control, op="stat", name="nobody")
    refused("invalid", ns.control, op="stat")


def test_tokens(ns, prefix):
    assert ns.control(op="tokens", key=hex_of(prefix.key))["tokens"] == prefix.tokens


def test_list_and_tree_page(ns):
    tokens, blocks = make_tokens(4), make_blocks(ns, 4)
    keys = set()
    for seed in range(10):
        keys.add(
            hex_of(
                ns.store(
                    tokens + make_tokens(2, seed=100 + seed), blocks + make_blocks(ns, 2, seed=seed)
                )
            )
        )
    seen, cursor = [], None
    while True:
        page = ns.control(op="list", limit=3, **({} if cursor is None else {"cursor": cursor}))
        seen += [p["key"] for p in page["prefixes"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert sorted(seen) == sorted(keys)
    nodes, cursor = [], 0
    while cursor is not None:
        page = ns.control(op="tree", limit=4, cursor=cursor)
        nodes += page["nodes"]
        cursor = page["next"]
    branch = [n for n in nodes if n["key"] not in keys]
    assert len(nodes) == 11
    assert len(branch) == 1
    assert branch[0]["blocks"] == 4
    assert branch[0]["parent"] is None
    assert all(
        n["parent"] == branch[0]["key"] and n["own_blocks"] == 2 for n in nodes if n["key"] in keys
    )
    refused("invalid", ns.control, op="list", limit=0)
    refused("invalid", ns.control, op="list", limit=20000)


def test_evict(ns):
    prefix = store_prefix(ns, 6)
    ns.control(op="flush")
    dram = ns.control(op="evict", tier="dram", bytes=2 * ns.slot_bytes[0])
    assert dram["bytes"] >= 2 * ns.slot_bytes[0]
    assert ns.control(op="stat", key=hex_of(prefix.key))["tiers"]["nvme"] == 6
    gone = ns.control(op="evict", key=hex_of(prefix.key))
    assert gone["blocks"] == 6
    assert set(gone["kept"]) == {"leased", "pinned", "shared"}
    store_prefix(ns, 2, seed=5)
    evicted, deadline = 0, time.monotonic() + 20
    while evicted < 2 and time.monotonic() < deadline:  # the kernel tells of a close afterwards
        evicted += ns.control(op="evict", all=True)["blocks"]
    assert evicted == 2
    refused("invalid", ns.control, op="evict", tier="tape", bytes=1)
    refused("invalid", ns.control, op="evict")
    refused("not_found", ns.control, op="evict", key=hex_of(prefix.key))


def test_flush_prefetch_verify(ns, prefix):
    ns.control(op="flush", key=hex_of(prefix.key), timeout_s=10)
    ns.control(op="flush")
    ns.control(op="evict", tier="dram", bytes=1 << 30)
    assert ns.control(op="prefetch", key=hex_of(prefix.key))["blocks"] == 8
    checked, cursor = 0, 0
    while cursor is not None:
        page = ns.control(op="verify", cursor=cursor, limit=3)
        checked += page["checked"]
        assert page["bad"] == []
        cursor = page["next"]
    assert checked >= 8
    refused("invalid", ns.control, op="flush", timeout_s=-1)


def test_unknown_operation_lists_the_known(ns):
    message = refused("invalid", ns.control, op="fly")
    assert "prefetch" in message
