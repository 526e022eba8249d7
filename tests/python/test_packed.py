"""A packed namespace: fewer bytes, the same numbers."""

import json
import subprocess
from pathlib import Path

import kv_data
import kvfs
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

GEOMETRY = kv_data.geometry(head_dim=64, encoding="packed")


def real_kv(tokens, seed):
    """As kv_data.random_kv, with exponents that lie together as those of a model do."""
    g = GEOMETRY.groups[0]
    shape = (g.layers, g.kv_factor, tokens, g.kv_heads, g.head_dim)
    numbers = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    return (numbers.view(np.uint32) >> 16).astype(np.uint16)


@pytest.fixture(params=["mapped", "fallback"])
def namespace(request, make_namespace):
    return make_namespace(GEOMETRY, force_fallback=request.param == "fallback")


def stats(namespace, daemon):
    return json.loads((Path(daemon.mount) / namespace.name / ".kvfs/stats.json").read_text())


def test_the_same_numbers_of_fewer_bytes(namespace, daemon):
    tokens = kv_data.random_tokens(160, seed=1)
    kv = real_kv(160, 1)
    key = kv_data.store(namespace, tokens, kv).key
    assert np.array_equal(kv_data.load(namespace, tokens), kv)
    seen = stats(namespace, daemon)
    assert seen["encoding"] == "packed"
    assert seen["tiers"]["dram"]["bytes"] * seen["ratio"] == pytest.approx(kv.nbytes)
    read = load_file(namespace.path(key))["kv"]
    assert read.dtype == torch.bfloat16
    bits = read.view(torch.int16).numpy().view(np.uint16)
    assert np.array_equal(bits, kv_data.canonical(GEOMETRY, kv))


def test_whole_blocks_are_unpacked(namespace):
    tokens = kv_data.random_tokens(48, seed=2)
    kv = kv_data.canonical(GEOMETRY, real_kv(48, 2))
    with namespace.reserve(tokens) as reservation:
        reservation.store_blocks(list(kv))
        assert reservation.commit().committed == 3
    loaded = np.zeros_like(kv)
    with namespace.acquire(tokens) as lease:
        lease.load_blocks(list(loaded))
    assert np.array_equal(loaded, kv)


def test_a_prefix_ends_before_what_does_not_pack(namespace, daemon):
    tokens = kv_data.random_tokens(96, seed=3)
    kv = real_kv(96, 3)
    kv[:, :, 64:] = kv_data.random_kv(GEOMETRY, 32, 3)
    result = kv_data.store(namespace, tokens, kv)
    assert (result.committed, result.present) == (4, 0)
    assert namespace.match(tokens).tokens == 64
    assert stats(namespace, daemon)["unpackable_blocks"] == 2
    assert f"namespace {namespace.name}: a block could not be packed" in daemon.log.read_text()
    assert np.array_equal(kv_data.load(namespace, tokens), kv[:, :, :64])


def test_only_bfloat16_is_packed(daemon):
    with pytest.raises(kvfs.Error, match="BF16"):
        kvfs.create_namespace(
            daemon.mount, "never", kv_data.geometry("float16", head_dim=64, encoding="packed")
        )


def test_bytes_that_changed_on_the_disk_are_not_unpacked(namespace, daemon):
    tokens = kv_data.random_tokens(96, seed=4)
    kv = real_kv(96, 4)
    kv_data.store(namespace, tokens, kv)
    with namespace.acquire(tokens) as lease:
        lease.flush()
    flip_a_bit_of_each_slot(daemon.disk)
    daemon.control({"op": "evict", "bytes": 1 << 30, "tier": "dram"}, namespace.name)
    with pytest.raises(kvfs.Corrupt, match="checksum"):
        kv_data.load(namespace, tokens)
    assert namespace.match(tokens).tokens == 0
    kv_data.store(namespace, tokens, kv)
    assert np.array_equal(kv_data.load(namespace, tokens), kv)


def flip_a_bit_of_each_slot(disk):
    for segment in (disk / "segments").iterdir():
        content = bytearray(segment.read_bytes())
        for page in range(0, len(content), 4096):
            content[page + 1000] ^= 1
        with segment.open("r+b") as file:
            file.write(content)


def test_what_kvfs_stat_says_of_it(namespace, daemon, bin_dir):
    tokens = kv_data.random_tokens(160, seed=5)
    key = kv_data.store(namespace, tokens, real_kv(160, 5)).key

    def stat(*options):
        command = [bin_dir / "kvfs", "stat", f"{namespace.name}/{key}", "--mount", daemon.mount]
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
        return done.stdout

    said = json.loads(stat("--json"))
    seen = stats(namespace, daemon)
    assert (said["encoding"], said["ratio"]) == ("packed", seen["ratio"])
    assert said["ratio"] > 1.1
    assert said["own_bytes"] == seen["tiers"]["dram"]["bytes"]
    assert f"packed, {said['ratio']:.2f}x" in stat()
