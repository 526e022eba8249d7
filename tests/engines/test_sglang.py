"""kvfs.sglang below SGLang's own memory pools, host pools and back end factory, on a real mount; and
SGLang's file back end, unmodified, on a plain directory of one.

SGLang's server does not run without a GPU; these parts of it do. What its cache controller does
with a back end is done here by hand: write pages, ask for a prefix, read it into other pages.
"""

import json
import multiprocessing
import time

import pytest
from support.plain_directories import plain_directory, settled, statistics, until

sglang = pytest.importorskip("sglang")
torch = pytest.importorskip("torch")

from sglang.srt.mem_cache.hicache_storage import (  # noqa: E402
    HiCacheStorageConfig,
    PoolHitPolicy,
    PoolName,
    PoolTransfer,
)
from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool  # noqa: E402
from sglang.srt.mem_cache.pool_host.mha import MHATokenToKVPoolHost  # noqa: E402
from sglang.srt.mem_cache.storage.backend_factory import StorageBackendFactory  # noqa: E402
from sglang.srt.mem_cache.utils import get_hash_str  # noqa: E402

PAGE, LAYERS, HEADS, DIM, SLOTS = 16, 3, 2, 16, 256


@pytest.fixture(scope="module")
def daemon(make_daemon):
    return make_daemon(dram="128MiB", nvme=None)


def host_pool(layout, slots=SLOTS, page=PAGE, layers=LAYERS, heads=HEADS, dim=DIM):
    device = MHATokenToKVPool(
        size=slots,
        page_size=page,
        dtype=torch.bfloat16,
        head_num=heads,
        head_dim=dim,
        layer_num=layers,
        device="cpu",
        enable_memory_saver=False,
    )
    (info,) = device.get_device_pool_infos()
    pool = MHATokenToKVPoolHost(
        info.buffer_info,
        2.0,
        0,
        page,
        layout,
        pin_memory=False,
        device_capacity_tokens=slots,
        start_layer=0,
        end_layer=layers,
    )
    pool.kv_buffer.view(torch.int16).random_()
    return pool


def config_of(pool, extra, model="org/Model", rank=0, ranks=1):
    return HiCacheStorageConfig(
        tp_rank=rank,
        tp_size=ranks,
        pp_rank=0,
        pp_size=1,
        attn_cp_rank=0,
        attn_cp_size=1,
        is_mla_model=False,
        enable_storage_metrics=False,
        is_page_first_layout=pool.layout == "page_first",
        model_name=model,
        extra_config=extra,
    )


def back_end(daemon, pool, path=None, **more):
    """As SGLang's controller makes one of `--hicache-storage-backend dynamic`."""
    extra = {
        "backend_name": "kvfs",
        "module_path": "kvfs.sglang",
        "class_name": "KvfsStorage",
        "interface_v1": 1,
        "path": str(daemon.mount) if path is None else path,
    }
    config = config_of(pool, extra, **more)
    storage = StorageBackendFactory.create_backend("dynamic", config, pool)
    storage.register_mem_pool_host(pool)
    storage.on_host_pools_registered()
    return storage


def keys_of(seed, pages):
    tokens = torch.randint(0, 50_000, (pages * PAGE,), generator=torch.manual_seed(seed)).tolist()
    keys, last = [], None
    for page in range(pages):
        last = get_hash_str(tokens[page * PAGE : (page + 1) * PAGE], last)
        keys.append(last)
    return keys


def indices(pages):
    return torch.cat([torch.arange(page * PAGE, (page + 1) * PAGE) for page in pages])


def pages_of(pool, pages):
    """As bits: random ones are no numbers that compare."""
    return [bits(pool.get_data_page(page * PAGE, flat=True)).clone() for page in pages]


def bits(page):
    return page.view(torch.int16)


@pytest.mark.parametrize("layout", ["page_first", "layer_first"])
def test_pages_come_back_in_another_engine(daemon, layout):
    one, two = host_pool(layout), host_pool(layout)
    writer, reader = (back_end(daemon, pool, model=f"m/{layout}") for pool in (one, two))
    keys = keys_of(1, 4)
    assert reader.batch_exists(keys) == 0
    assert writer.batch_set_v1(keys, indices([0, 5, 2, 7])) == [True] * 4
    assert writer.batch_set_v1(keys, indices([0, 5, 2, 7])) == [True] * 4  # again is no error
    assert reader.batch_exists(keys) == 4
    assert reader.exists(keys[2])
    assert not reader.exists(keys_of(2, 1)[0])
    before = pages_of(two, [3])
    assert reader.batch_get_v1(keys, indices([8, 9, 4, 1])) == [True] * 4
    for got, there in zip(pages_of(two, [8, 9, 4, 1]), pages_of(one, [0, 5, 2, 7]), strict=True):
        assert torch.equal(got, there)
    assert torch.equal(pages_of(two, [3])[0], before[0])
    for storage in (writer, reader):
        storage.close()


def test_a_page_that_is_not_there_ends_a_read(daemon):
    pool = host_pool("page_first")
    storage = back_end(daemon, pool)
    keys = keys_of(3, 3)
    storage.batch_set_v1([keys[0], keys[2]], indices([0, 2]))
    assert storage.batch_exists(keys) == 1
    assert storage.batch_get_v1(keys, indices([4, 5, 6])) == [True, False, False]
    storage.close()


def test_ranks_and_models_are_apart(daemon):
    pool = host_pool("page_first")
    keys = keys_of(4, 1)
    storages = [
        back_end(daemon, pool, rank=0, ranks=2),
        back_end(daemon, pool, rank=1, ranks=2),
        back_end(daemon, pool, rank=0, ranks=1),
        back_end(daemon, pool, model="org/Other"),
    ]
    storages[0].batch_set_v1(keys, indices([0]))
    assert [storage.batch_exists(keys) for storage in storages] == [1, 0, 0, 0]
    for storage in storages:
        storage.close()


def test_pools_that_order_a_page_otherwise_are_apart(daemon):
    """Two layouts of one size: their pages are not each other's."""
    one, two = host_pool("page_first"), host_pool("page_first_direct")
    writer, reader = back_end(daemon, one), back_end(daemon, two)
    keys = keys_of(11, 1)
    writer.batch_set_v1(keys, indices([0]))
    assert (writer.batch_exists(keys), reader.batch_exists(keys)) == (1, 0)
    assert reader.batch_get_v1(keys, indices([0])) == [False]
    for storage in (writer, reader):
        storage.close()


def test_pages_as_tensors(daemon):
    """What SGLang calls without interface_v1."""
    pool = host_pool("layer_first")
    storage = back_end(daemon, pool)
    keys = keys_of(5, 2)
    assert storage.batch_set(keys, pages_of(pool, [1, 2]))
    targets = [pool.get_dummy_flat_data_page() for _ in range(3)]
    got = storage.batch_get([*keys, keys_of(6, 1)[0]], targets)
    assert torch.equal(bits(got[0]), pages_of(pool, [1])[0])
    assert torch.equal(bits(got[1]), pages_of(pool, [2])[0])
    assert got[2] is None
    storage.close()


def test_other_pools_beside_kv(daemon):
    kv, window = host_pool("page_first"), host_pool("page_first")
    storage = back_end(daemon, kv)
    storage.register_mem_host_pool_v2(window, PoolName.SWA)
    keys = keys_of(7, 4)

    def transfer(these, pages):
        return PoolTransfer(
            PoolName.SWA,
            host_indices=indices(pages),
            keys=these,
            hit_policy=PoolHitPolicy.TRAILING_PAGES,
        )

    storage.batch_set_v1(keys, indices([0, 1, 2, 3]))
    written = storage.batch_set_v2([transfer(keys[1:3], [5, 6])])
    assert written == {PoolName.SWA: [True, True]}
    found = storage.batch_exists_v2(keys, [transfer(keys[:2], [0, 1])])
    assert found.kv_hit_pages == 3  # the window's two pages end there
    assert found.restorable_prefix_pages == [3]
    assert found.extra_pool_hit_pages == {PoolName.KV: 4, PoolName.SWA: 3}
    assert storage.batch_get_v2([transfer(keys[1:3], [8, 9])]) == {PoolName.SWA: [True, True]}
    for got, there in zip(pages_of(window, [8, 9]), pages_of(window, [5, 6]), strict=True):
        assert torch.equal(got, there)
    storage.close()


def test_without_the_daemon_everything_is_a_miss(make_daemon):
    daemon = make_daemon(dram="64MiB", nvme=None)
    pool = host_pool("page_first")
    storage = back_end(daemon, pool)
    keys = keys_of(8, 2)
    assert storage.batch_set_v1(keys, indices([0, 1])) == [True, True]
    daemon.kill()
    assert storage.batch_get_v1(keys, indices([2, 3])) == [False, False]
    assert storage.batch_set_v1(keys_of(9, 1), indices([0])) == [False]
    storage.close()


def test_the_namespace_has_a_name_a_person_recognizes(daemon):
    pool = host_pool("page_first")
    storage = back_end(daemon, pool, model="org/Named-8B")
    storage.batch_set_v1(keys_of(10, 1), indices([0]))
    stats = json.loads((daemon.mount / ".kvfs/stats.json").read_text())
    size = PAGE * LAYERS * HEADS * DIM * 2
    assert f"sglang-named-8b-{size}" in {one["name"] for one in stats["namespaces"]}
    storage.close()
    with pytest.raises(ValueError, match="path"):
        back_end(daemon, pool, path="")


def test_beside_the_file_back_end(make_daemon, tmp_path, capsys):
    """64 pages of 1 MiB, written and read as SGLang does with each; times are shown only."""
    daemon = make_daemon(dram="512MiB", nvme=None)
    page, pages = 64, 64
    pool = host_pool("page_first", slots=pages * page, page=page, layers=8, heads=8, dim=64)
    kvfs = back_end(daemon, pool)
    extra = {"file_storage_path": str(tmp_path)}
    file = StorageBackendFactory.create_backend("file", config_of(pool, extra), pool)
    file.register_mem_pool_host(pool)
    keys = [str(number) * 64 for number in range(pages)]
    where = torch.arange(pages * page)

    def content():
        return torch.stack([bits(pool.get_data_page(i * page)) for i in range(pages)])

    def write_by_file():
        return file.batch_set(keys, [pool.get_data_page(i * page) for i in range(pages)])

    def read_by_file():
        got = file.batch_get(keys, [pool.get_dummy_flat_data_page() for _ in keys])
        for number, data in enumerate(got):
            pool.set_from_flat_data_page(number * page, data)

    def seconds(call):
        began = time.perf_counter()
        call()
        return time.perf_counter() - began

    before = content()
    writes = [seconds(write_by_file), seconds(lambda: kvfs.batch_set_v1(keys, where))]
    reads = []
    for _ in range(5):
        pool.kv_buffer.zero_()
        by_file = seconds(read_by_file)
        assert torch.equal(content(), before)
        pool.kv_buffer.zero_()
        by_kvfs = seconds(lambda: kvfs.batch_get_v1(keys, where))
        assert torch.equal(content(), before)
        reads.append((by_file, by_kvfs))
    file_read, kvfs_read = (sorted(column)[2] for column in zip(*reads, strict=True))
    with capsys.disabled():
        print("\n  64 MiB in pages of 1 MiB, SGLang's file back end / kvfs: written in", end=" ")
        print(f"{1e3 * writes[0]:.0f} / {1e3 * writes[1]:.0f} ms", end=", ")
        print(f"read in {1e3 * file_read:.0f} / {1e3 * kvfs_read:.0f} ms")
    kvfs.close()


def file_back_end(path, pool):
    """SGLang's own, as its controller makes one of `--hicache-storage-backend file`."""
    config = config_of(pool, {"file_storage_path": str(path)})
    storage = StorageBackendFactory.create_backend("file", config, pool)
    storage.register_mem_pool_host(pool)
    return storage


def read_by_file(path, keys, bits_there):
    """In a process of its own: every page is there, and is what was written."""
    pool = host_pool("page_first")
    storage = file_back_end(path, pool)
    assert storage.batch_exists_v2(keys).kv_hit_pages == len(keys)
    got = storage.batch_get(keys, [pool.get_dummy_flat_data_page() for _ in keys])
    for page, there in zip(got, bits_there, strict=True):
        assert torch.equal(bits(page), torch.from_numpy(there))


@pytest.fixture(scope="module")
def plain_daemon(make_daemon):
    return make_daemon(dram="64MiB", nvme="1GiB", flags=["--plain-quota", "256MiB"])


def test_the_file_back_end_finds_its_pages_in_another_process(plain_daemon):
    path = plain_directory(plain_daemon, "sglang", "64MiB")
    pool = host_pool("page_first")
    storage = file_back_end(path, pool)
    keys = keys_of(12, 8)
    pages = pages_of(pool, range(8))
    assert storage.batch_set(keys, pages)
    reader = multiprocessing.get_context("spawn").Process(
        target=read_by_file, args=(path, keys, [page.numpy() for page in pages])
    )
    reader.start()
    reader.join(120)
    assert reader.exitcode == 0
    settled(plain_daemon)
    stats = statistics(plain_daemon, path.name)
    assert (stats["files"], stats["hits"]) == (len(keys), len(keys))


def test_the_file_back_end_within_a_quota(plain_daemon):
    """Three times what fits: every page is taken, what is found is what was written."""
    path = plain_directory(plain_daemon, "sglang-small", "16MiB")
    pool = host_pool("page_first", slots=48 * 64, page=64, layers=8, heads=8, dim=64)
    storage = file_back_end(path, pool)
    keys = [f"{number:064x}" for number in range(48)]  # of 1 MiB each
    found = 0
    for turn in [*range(48), *reversed(range(48))]:
        page = pool.get_data_page(turn * 64, flat=True)
        got = None
        if storage.exists(keys[turn]):
            got = storage.get(keys[turn], pool.get_dummy_flat_data_page())
        if got is None:
            assert storage.set(keys[turn], page)
        else:
            assert torch.equal(bits(got), bits(page))
            found += 1
    assert found >= 8
    settled(plain_daemon)
    until(lambda: statistics(plain_daemon, path.name)["bytes"] <= 16 << 20)
    lost = statistics(plain_daemon, path.name)["evictions"]
    assert lost["files"] >= 48
    assert lost["corrupt"] == lost["incomplete"] == 0
