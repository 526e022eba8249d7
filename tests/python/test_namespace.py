"""Opening, finding, and what is refused there."""

import array

import kv_data
import kvfs
import numpy as np
import pytest
import torch


def test_geometry_comes_back(daemon, make_namespace):
    wanted = kv_data.geometry("float16", block_tokens=32, salt="tenant-7")
    namespace = make_namespace(wanted)
    assert namespace.geometry == wanted
    assert namespace.block_tokens == 32
    assert namespace.block_bytes() == wanted.block_bytes()
    assert namespace.mount == str(daemon.mount)


def test_creating_again_is_fine_with_the_same_geometry_only(daemon, namespace):
    kvfs.create_namespace(namespace.mount, namespace.name, namespace.geometry)
    with pytest.raises(kvfs.Mismatch, match="dtype") as caught:
        kvfs.create_namespace(namespace.mount, namespace.name, kv_data.geometry("float16"))
    assert caught.value.status == "mismatch"
    with pytest.raises(kvfs.Mismatch, match="block_tokens"):
        kvfs.open(namespace.mount, namespace.name, kv_data.geometry(block_tokens=64))


def test_what_is_not_there(daemon, tmp_path):
    with pytest.raises(kvfs.NotFound, match="no-such"):
        kvfs.open(str(daemon.mount), "no-such")
    with pytest.raises(kvfs.Error, match=str(tmp_path)):
        kvfs.open(str(tmp_path), "anything")
    with pytest.raises(kvfs.Error):
        kvfs.create_namespace(str(tmp_path), "anything", kv_data.geometry())


def test_a_miss_is_false_and_acquires_nothing(namespace):
    match = namespace.match([1, 2, 3] * 20)
    assert not match
    assert (match.blocks, match.tokens, match.dram_blocks, match.prompt_blocks) == (0, 0, 0, 3)
    assert match.key == "0" * 32
    assert namespace.acquire(match) is None
    assert namespace.acquire([1, 2, 3] * 20) is None
    assert namespace.acquire("12" * 16) is None


def test_match_finds_the_longest_full_blocks(namespace):
    tokens = kv_data.random_tokens(100, seed=1)
    commit = kv_data.store(namespace, tokens, kv_data.random_kv(namespace.geometry, 100, 1))
    assert (commit.committed, commit.present) == (6, 0)
    match = namespace.match(tokens)
    assert match
    assert (match.blocks, match.tokens, match.dram_blocks) == (6, 96, 6)
    assert match.key == commit.key
    assert namespace.match(tokens[:40]).blocks == 2
    other = tokens.copy()
    other[50] += 1
    assert namespace.match(other).blocks == 3
    other[0] += 1
    assert not namespace.match(other)


@pytest.mark.parametrize(
    "convert",
    [
        list,
        tuple,
        lambda t: array.array("i", t),
        lambda t: t.astype(np.int64),
        lambda t: t.astype(np.uint16),
        lambda t: np.repeat(t, 2)[::2],
        torch.from_numpy,
        lambda t: torch.from_numpy(t).to(torch.int64),
        lambda t: memoryview(t),
    ],
    ids=["list", "tuple", "array", "int64", "uint16", "strided", "torch", "torch64", "memoryview"],
)
def test_tokens_of_any_kind_are_the_same_prompt(namespace, convert):
    tokens = kv_data.random_tokens(48, seed=2)
    kv_data.store(namespace, tokens, kv_data.random_kv(namespace.geometry, 48, 2))
    assert namespace.match(convert(tokens)).blocks == 3


@pytest.mark.parametrize(
    ("tokens", "complaint"),
    [
        ([1, 2, -3, 4], "token 2 is -3"),
        ([1, 2**31], "token 1 is 2147483648"),
        ([2**80], f"token 0 is {2**80}"),
        (np.array([5, 6, 7, -1], np.int32), "token 3 is -1"),
        (np.array([5, 2**40], np.int64), f"token 1 is {2**40}"),
        (torch.tensor([0, 1, -9]), "token 2 is -9"),
    ],
)
def test_tokens_outside_int32_are_named(namespace, tokens, complaint):
    for call in (namespace.match, namespace.acquire, namespace.reserve):
        with pytest.raises(ValueError, match=complaint):
            call(tokens)


def test_tokens_that_are_no_integers(namespace):
    for tokens in (
        np.zeros(16, np.float32),
        torch.zeros(16),
        [1.5],
        None,
        np.zeros((4, 4), np.int32),
    ):
        with pytest.raises(TypeError):
            namespace.match(tokens)


def test_extras_are_part_of_a_block_s_identity(namespace):
    tokens = kv_data.random_tokens(64, seed=3)
    kv = kv_data.random_kv(namespace.geometry, 64, 3)
    with namespace.reserve(tokens, {0: b"lora-1"}) as reservation:
        reservation.store(kvfs.Pages(kv, kv_data.PLAIN))
        reservation.commit()
    assert namespace.match(tokens, {0: b"lora-1"}).blocks == 4
    assert not namespace.match(tokens)
    assert not namespace.match(tokens, {0: b"lora-2"})


def test_salt_separates_tenants(make_namespace):
    keys = set()
    for salt in ("", "a", "b"):
        namespace = make_namespace(kv_data.geometry(salt=salt))
        tokens = kv_data.random_tokens(16, seed=4)
        kv = kv_data.random_kv(namespace.geometry, 16, 4)
        keys.add(kv_data.store(namespace, tokens, kv).key)
    assert len(keys) == 3


def test_acquire_by_tokens_match_and_key(namespace):
    tokens = kv_data.random_tokens(64, seed=5)
    kv = kv_data.random_kv(namespace.geometry, 64, 5)
    key = kv_data.store(namespace, tokens, kv).key
    for prefix in (tokens, namespace.match(tokens), key, key + ".safetensors"):
        with namespace.acquire(prefix) as lease:
            assert (lease.blocks, lease.tokens, lease.key) == (4, 64, key)
    with pytest.raises(ValueError, match="'xyz' is not a key: a key has 32 hex digits"):
        namespace.acquire("xyz")


def test_what_is_no_prefix_and_no_pages(namespace):
    tokens = kv_data.random_tokens(16, seed=9)
    kv = kv_data.random_kv(namespace.geometry, 16, 9)
    kv_data.store(namespace, tokens, kv)
    for call in (namespace.prefetch, namespace.path):
        with pytest.raises(TypeError, match="a Match or a key"):
            call(7)
    with namespace.acquire(tokens) as lease, pytest.raises(TypeError, match=r"a kvfs\.Pages"):
        lease.load(kv)


def test_stats_count(namespace):
    tokens = kv_data.random_tokens(32, seed=6)
    kv = kv_data.random_kv(namespace.geometry, 32, 6)
    kv_data.store(namespace, tokens, kv)
    namespace.match(tokens)
    kv_data.load(namespace, tokens)
    stats = namespace.stats()
    assert stats["stored_bytes"] == stats["loaded_bytes"] == kv.nbytes
    assert stats["leases"] == 1
    assert stats["matches"] >= 1


def test_slabs_are_mapped_ahead(namespace):
    tokens = kv_data.random_tokens(32, seed=10)
    kv = kv_data.random_kv(namespace.geometry, 32, 10)
    assert namespace.map_slabs() == 0  # nothing is in DRAM
    kv_data.store(namespace, tokens, kv)
    pages = kvfs.Pages(kv, kv_data.PLAIN)
    assert pages.pointer == kv.ctypes.data
    assert namespace.map_slabs(pages.pointer) == namespace.map_slabs() >= kv.nbytes
    before = namespace.map_slabs()
    provided = namespace.map_slabs(provide=None)  # half of what others do not have, in whole slabs
    assert before < provided == namespace.map_slabs(provide=provided)
    assert namespace.map_slabs(provide=provided + 1) > provided
    whole = namespace.map_slabs(provide=1 << 50)
    assert whole / 2 <= provided <= whole / 2 + before
    with kvfs.open(namespace.mount, namespace.name, force_fallback=True) as fallback:
        assert fallback.map_slabs(pages.pointer, provide=None) == 0


def test_closed_objects_say_so(namespace):
    tokens = kv_data.random_tokens(16, seed=7)
    kv_data.store(namespace, tokens, kv_data.random_kv(namespace.geometry, 16, 7))
    lease, reservation = namespace.acquire(tokens), namespace.reserve(tokens)
    lease.release()
    lease.release()
    reservation.free()
    namespace.close()
    with pytest.raises(ValueError, match="the lease is closed"):
        _ = lease.blocks
    with pytest.raises(ValueError, match="the reservation is closed"):
        reservation.commit()
    with pytest.raises(ValueError, match="the namespace is closed"):
        namespace.match(tokens)
    with pytest.raises(ValueError, match="the namespace is closed"):
        namespace.map_slabs()


def test_a_lease_outlives_its_namespace_object(namespace):
    tokens = kv_data.random_tokens(32, seed=8)
    kv = kv_data.random_kv(namespace.geometry, 32, 8)
    kv_data.store(namespace, tokens, kv)
    lease = namespace.acquire(tokens)
    loaded = np.zeros_like(kv)
    namespace.close()
    lease.load(kvfs.Pages(loaded, kv_data.PLAIN))
    lease.release()
    assert np.array_equal(loaded, kv)


def test_tokens_are_read_once_for_many_matches():
    tokens = kvfs.as_int32([0, 2**31 - 1, True])
    assert tokens.dtype == np.int32 and tokens.tolist() == [0, 2**31 - 1, 1]
    given = np.arange(4, dtype=np.int32)
    own = kvfs.as_int32(given)
    given[:] = 7
    assert own.tolist() == [0, 1, 2, 3]
    own[0] = 5  # its memory is its own
    assert kvfs.as_int32([]).tolist() == []
    for wrong, message in (([1, -1], "token 1 is -1"), ([2**31], "token 0 is 2147483648")):
        with pytest.raises(ValueError, match=message):
            kvfs.as_int32(wrong)
