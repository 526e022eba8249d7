"""Every way in which engines lay out KV, stored and loaded bit by bit."""

import kv_data
import kvfs
import numpy as np
import pytest
import torch

TOKENS = 70  # four full blocks and a rest


@pytest.fixture(params=["mapped", "fallback"])
def namespace(request, make_namespace):
    """Both ways in which a client reaches the store's memory."""
    namespace = make_namespace(force_fallback=request.param == "fallback")
    if request.param == "fallback":
        assert not namespace.stats()["mapped"]
    return namespace


@pytest.fixture
def stored(namespace):
    """(tokens, kv) of a cached prompt."""
    tokens = kv_data.random_tokens(TOKENS, seed=11)
    kv = kv_data.random_kv(namespace.geometry, TOKENS, 11)
    assert kv_data.store(namespace, tokens, kv).committed == 4
    return tokens, kv[:, :, :64]


def test_strided(namespace, stored):
    tokens, kv = stored
    assert np.array_equal(kv_data.load(namespace, tokens), kv)


def test_only_what_was_asked_for_is_written(namespace, stored):
    tokens, kv = stored
    loaded = np.full_like(kv, 7)
    with namespace.acquire(tokens) as lease:
        lease.load(kvfs.Pages(loaded, kv_data.PLAIN), first_block=1, count=2)
    assert np.array_equal(loaded[:, :, 16:48], kv[:, :, 16:48])
    assert (loaded[:, :, :16] == 7).all()
    assert (loaded[:, :, 48:] == 7).all()


def test_first_token_says_where_the_memory_begins(namespace, stored):
    tokens, kv = stored
    loaded = np.zeros_like(kv[:, :, 32:])
    with namespace.acquire(tokens) as lease:
        lease.load(kvfs.Pages(loaded, kv_data.PLAIN), first_block=2, first_token=32)
    assert np.array_equal(loaded, kv[:, :, 32:])


@pytest.mark.parametrize("page_tokens", [4, 16, 48])
@pytest.mark.parametrize("layout", ["kv pages tokens heads dim", "pages kv heads tokens dim"])
def test_paged(namespace, stored, page_tokens, layout):
    """Pages shorter than, as long as and longer than a block, in shuffled order, NHD and HND."""
    tokens, kv = stored
    g = namespace.geometry.groups[0]
    extent = {"kv": 2, "pages": 40, "tokens": page_tokens, "heads": g.kv_heads, "dim": g.head_dim}
    shape = [extent[axis] for axis in layout.split()]
    caches = [np.zeros(shape, kv.dtype) for _ in range(g.layers)]
    table = np.random.default_rng(3).permutation(40)[: -(-64 // page_tokens)].astype(np.int32)
    with namespace.acquire(tokens) as lease:
        lease.load(kvfs.Pages(caches, layout), page_table=table)

    to_plain = [layout.split().index(axis) for axis in ("kv", "pages", "tokens", "heads", "dim")]
    for layer, cache in enumerate(caches):
        pages = cache.transpose(to_plain)[:, table]
        assert np.array_equal(pages.reshape(2, -1, g.kv_heads, g.head_dim)[:, :64], kv[layer])
        pages = np.delete(cache.transpose(to_plain), table, axis=1)
        assert not pages.any(), "a page that is not in the table was written"


def test_paged_store(namespace):
    tokens = kv_data.random_tokens(64, seed=12)
    g = namespace.geometry.groups[0]
    caches = [kv_data.random_kv(namespace.geometry, 40 * 4, seed)[0] for seed in range(g.layers)]
    paged = [cache.reshape(2, 40, 4, g.kv_heads, g.head_dim) for cache in caches]
    table = [7, 3, 39, 0, 12, 13, 14, 15, 1, 30, 22, 21, 20, 19, 18, 17]
    with namespace.reserve(tokens) as reservation:
        reservation.store(kvfs.Pages(paged, "kv pages tokens heads dim"), page_table=table)
        reservation.commit()
    loaded = kv_data.load(namespace, tokens)
    for layer, cache in enumerate(paged):
        assert np.array_equal(cache[:, table].reshape(loaded[layer].shape), loaded[layer])


def test_keys_and_values_apart_in_torch(namespace, stored):
    """As transformers has them: separate tensors [1, heads, tokens, dim] of bfloat16."""
    tokens, kv = stored
    g = namespace.geometry.groups[0]
    empty = [
        [torch.empty(1, g.kv_heads, 64, g.head_dim, dtype=torch.bfloat16) for _ in range(g.layers)]
        for _ in "kv"
    ]
    with namespace.acquire(tokens) as lease:
        lease.load(kvfs.Pages(keys=empty[0], values=empty[1], layout="1 heads tokens dim"))
    for which in range(2):
        for layer in range(g.layers):
            bits = empty[which][layer][0].transpose(0, 1).contiguous().view(torch.uint16).numpy()
            assert np.array_equal(bits, kv[layer, which])


def test_keys_and_values_apart_are_stored_from_views(namespace):
    """Out of a longer cache, as after generation: not contiguous, and nothing is copied for it."""
    g = namespace.geometry.groups[0]
    kv = kv_data.random_kv(namespace.geometry, 100, 13)
    tensors = torch.from_numpy(kv).view(torch.bfloat16)
    views = [[layer[which].transpose(0, 1)[:, 10:90] for layer in tensors] for which in range(2)]
    assert not views[0][0].is_contiguous()
    tokens = kv_data.random_tokens(80, seed=13)
    with namespace.reserve(tokens) as reservation:
        reservation.store(kvfs.Pages(keys=views[0], values=views[1], layout="heads tokens dim"))
        reservation.commit()
    assert np.array_equal(kv_data.load(namespace, tokens), kv[:, :, 10:90])
    assert g.layers == len(views[0])


def test_ranks_store_and_load_their_heads(namespace):
    """Two ranks store halves of the heads, four load quarters."""
    tokens = kv_data.random_tokens(64, seed=14)
    kv = kv_data.random_kv(namespace.geometry, 64, 14)
    with namespace.reserve(tokens) as reservation:
        for rank in range(2):
            own = kv[:, :, :, rank * 2 : rank * 2 + 2]
            reservation.store(kvfs.Pages(own, kv_data.PLAIN, first_head=rank * 2))
        reservation.commit()
    with namespace.acquire(tokens) as lease:
        for rank in range(4):
            own = np.zeros_like(kv[:, :, :, :1])
            lease.load(kvfs.Pages(own, kv_data.PLAIN, first_head=rank))
            assert np.array_equal(own, kv[:, :, :, rank : rank + 1])


def test_one_latent_for_both(make_namespace):
    """MLA: kv_factor 1, one head, no kv axis and no heads axis."""
    namespace = make_namespace(kv_data.geometry("float16", kv_heads=1, head_dim=72, kv_factor=1))
    tokens = kv_data.random_tokens(32, seed=15)
    kv = kv_data.random_kv(namespace.geometry, 32, 15)
    caches = [np.ascontiguousarray(layer[0, :, 0]) for layer in kv]
    with namespace.reserve(tokens) as reservation:
        reservation.store(kvfs.Pages(caches, "tokens dim"))
        reservation.commit()
    loaded = [np.zeros_like(cache) for cache in caches]
    with namespace.acquire(tokens) as lease:
        lease.load(kvfs.Pages(loaded, "tokens dim"))
    assert all(np.array_equal(a, b) for a, b in zip(loaded, caches, strict=True))


def test_whole_blocks(namespace, stored):
    tokens, kv = stored
    blocks = [bytearray(namespace.block_bytes()) for _ in range(4)]
    with namespace.acquire(tokens) as lease:
        lease.load_blocks(blocks)
        expected = kv_data.canonical(namespace.geometry, kv)
        assert [bytes(block) for block in blocks] == [block.tobytes() for block in expected]
        with pytest.raises(ValueError, match="buffer 1 is not 6144 bytes"):
            lease.load_blocks([blocks[0], bytearray(100)])
        with pytest.raises(ValueError, match="writable"):
            lease.load_blocks([bytes(namespace.block_bytes())])


def test_opaque_layout_is_kept_as_it_is(make_namespace):
    namespace = make_namespace(kv_data.geometry(layout="opaque:test-amx"))
    tokens = kv_data.random_tokens(32, seed=16)
    blocks = [np.random.default_rng(16).bytes(namespace.block_bytes()) for _ in range(2)]
    with namespace.reserve(tokens) as reservation:
        reservation.store_blocks(blocks)
        reservation.commit()
    loaded = [bytearray(len(block)) for block in blocks]
    with namespace.acquire(tokens) as lease:
        lease.load_blocks(loaded)
        pages = kvfs.Pages(kv_data.random_kv(namespace.geometry, 32, 0), kv_data.PLAIN)
        with pytest.raises(kvfs.Error, match="opaque"):
            lease.load(pages)
    assert loaded == [bytearray(block) for block in blocks]


def test_opaque_blocks_move_as_pages_of_their_own_size(make_namespace):
    """An engine whose pages are the namespace's blocks: the bytes inside them keep their order."""
    namespace = make_namespace(kv_data.geometry(layout="opaque:test-amx"))
    group = namespace.geometry.groups[0]
    shape = (group.layers, 8, group.kv_heads, 2, namespace.block_tokens, group.head_dim)
    layout = "layers pages heads kv tokens dim"
    cache = np.random.default_rng(17).integers(0, 65_535, shape, dtype=np.uint16)
    tokens = kv_data.random_tokens(48, seed=17)
    with namespace.reserve(tokens) as reservation:
        reservation.store(kvfs.Pages(cache, layout), page_table=[5, 0, 2])
        reservation.commit()
    loaded = np.zeros_like(cache)
    halves = np.zeros((*shape[:4], 8, shape[-1]), np.uint16)
    with namespace.acquire(tokens) as lease:
        lease.load(kvfs.Pages(loaded, layout), page_table=[1, 7, 3])
        block = bytearray(namespace.block_bytes())
        lease.load_blocks([block], first_block=1)
        with pytest.raises(kvfs.Error, match="opaque:test-amx.*pages of the block's 16 tokens"):
            lease.load(kvfs.Pages(halves, layout), page_table=[0, 1, 2, 3, 4, 5])
    assert (loaded[:, [1, 7, 3]] == cache[:, [5, 0, 2]]).all()
    assert bytes(block) == np.ascontiguousarray(cache[:, 0].transpose(1, 0, 2, 3, 4)).tobytes()


def test_what_the_tensors_lack_is_named(namespace, stored):
    tokens, kv = stored
    wrong = kv_data.random_kv(kv_data.geometry(layers=2), 64, 0)
    paged = np.zeros((3, 2, 8, 16, 4, 8), np.uint16)
    frozen = kv.copy()
    frozen.flags.writeable = False
    cases = [
        ("2 layers, the geometry has 3", wrong, kv_data.PLAIN, {}),
        ("4 elements on the dim axis", kv[..., :4], kv_data.PLAIN, {}),
        (r"heads \[2, 6\) of the geometry's 4", kv, kv_data.PLAIN, {}),
        ("dtype", kv.astype(np.float32), kv_data.PLAIN, {}),
        ("tokens axis reaches to 40", kv[:, :, :40], kv_data.PLAIN, {}),
        ("begin before first_token, 16", kv, kv_data.PLAIN, {"first_token": 16}),
        ("page_table was given, but", kv, kv_data.PLAIN, {"page_table": [0]}),
        ("give page_table", paged, "layers kv pages tokens heads dim", {}),
        (
            "more pages than the 2",
            paged,
            "layers kv pages tokens heads dim",
            {"page_table": [1, 2]},
        ),
        (
            r"page_table\[2\] is 8, the tensors have 8 pages",
            paged,
            "layers kv pages tokens heads dim",
            {"page_table": [1, 2, 8, 0]},
        ),
        ("read-only", frozen, kv_data.PLAIN, {}),
        ("group 1 is none", kv.copy(), kv_data.PLAIN, {"group": 1}),
    ]
    with namespace.acquire(tokens) as lease:
        for complaint, tensor, layout, options in cases:
            first_head = 2 if "heads" in complaint else 0
            with pytest.raises(ValueError, match=complaint):
                lease.load(kvfs.Pages(tensor, layout, first_head=first_head), **options)
