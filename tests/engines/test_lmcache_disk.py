"""What the LMCache engine within vLLM keeps files with, in a plain directory: `local_disk`, and `fs`
as remote storage. That engine runs on GPUs alone; its storage manager runs here, unmodified."""

import multiprocessing

import pytest
from support.plain_directories import plain_directory, settled, statistics, until

pytest.importorskip("lmcache")
torch = pytest.importorskip("torch")

from lmcache.utils import CacheEngineKey  # noqa: E402
from lmcache.v1.config import LMCacheEngineConfig  # noqa: E402
from lmcache.v1.event_manager import EventManager  # noqa: E402
from lmcache.v1.memory_management import MemoryFormat  # noqa: E402
from lmcache.v1.metadata import LMCacheMetadata  # noqa: E402
from lmcache.v1.storage_backend.storage_manager import StorageManager  # noqa: E402

SHAPE = torch.Size((2, 8, 256, 256))  # of a chunk: K and V, layers, tokens, values
CHUNK_BYTES = 2 << 20
KEEPS = 8  # chunks
QUOTA = (KEEPS + 4) * CHUNK_BYTES


@pytest.fixture
def directory(make_daemon):
    daemon = make_daemon(dram="64MiB", nvme="1GiB", flags=["--plain-quota", "64MiB"])
    path = plain_directory(daemon, "lmcache", QUOTA)

    def statistics_then() -> dict:
        settled(daemon)
        until(lambda: statistics(daemon, path.name)["bytes"] <= QUOTA)
        return statistics(daemon, path.name)

    return path, statistics_then


def disk(path, direct) -> dict:
    """LMCache's own limit is below the quota: it takes what it wrote for there."""
    return {
        "local_disk": f"file://{path}",
        "max_local_disk_size": KEEPS * CHUNK_BYTES / 2**30,
        "extra_config": {"use_odirect": direct},
    }


def shared(path, direct) -> dict:
    return {
        "remote_storage_plugins": ["fs"],
        "extra_config": {
            "remote_storage_plugin.fs.base_path": str(path),
            "fs_connector_use_odirect": direct,
            "save_chunk_meta": not direct,
        },
    }


@pytest.mark.parametrize("direct", [False, True], ids=["buffered", "direct"])
def test_a_process_loads_what_it_stored_and_what_others_left_goes(directory, direct):
    """LMCache knows only in memory what it has on disk, so a process that ends leaves all of it."""
    path, statistics_then = directory
    in_a_process(store_and_load, disk(path, direct), range(2 * KEEPS))
    assert statistics_then()["files"] == KEEPS
    left = files(path)

    in_a_process(store_and_load, disk(path, direct), range(100, 100 + 2 * KEEPS))
    evictions = statistics_then()["evictions"]
    assert len(files(path) - left) == KEEPS
    assert evictions["files"] == len(left - files(path)) > 0
    assert evictions["corrupt"] == evictions["incomplete"] == 0


@pytest.mark.parametrize("direct", [False, True], ids=["buffered", "direct"])
def test_a_process_loads_what_another_one_stored_and_the_quota_left(directory, direct):
    path, statistics_then = directory
    numbers = range(2 * KEEPS)
    in_a_process(store_all, shared(path, direct), numbers)
    evictions = statistics_then()["evictions"]
    assert evictions["files"] >= 2 * KEEPS - QUOTA // CHUNK_BYTES
    assert evictions["corrupt"] == evictions["incomplete"] == 0

    in_a_process(load_what_is_there, shared(path, direct), numbers, len(files(path)))
    assert statistics_then()["hits"] == len(files(path)) >= KEEPS


def files(path) -> set:
    return {file.name for file in path.iterdir()}


def in_a_process(what, configuration, *arguments):
    process = multiprocessing.get_context("spawn").Process(
        target=within_a_manager, args=(what, configuration, *arguments)
    )
    process.start()
    process.join(300)
    assert process.exitcode == 0


def within_a_manager(what, configuration, *arguments):
    """Made as LMCache's engine does, but that it keeps no chunk in memory."""
    config = LMCacheEngineConfig.from_defaults(
        chunk_size=SHAPE[2], local_cpu=False, max_local_cpu_size=0.125, **configuration
    )
    config.validate()
    metadata = LMCacheMetadata("model", 1, 1, 0, 0, torch.bfloat16, (8, 2, 256, 4, 64))
    manager = StorageManager(config, metadata, EventManager())
    try:
        what(manager, *arguments)
    finally:
        manager.close()


def store_and_load(manager, numbers):
    """Stores more than LMCache keeps, and loads what it did keep."""
    store_all(manager, numbers)
    kept = [number for number in numbers if manager.contains(key_of(number))]
    assert kept == list(numbers[-KEEPS:])
    for number in kept:
        assert_loaded(manager, number)


def load_what_is_there(manager, numbers, files_there):
    found = [number for number in numbers if manager.contains(key_of(number))]
    assert len(found) == files_there
    for number in found:
        assert_loaded(manager, number)
    assert all(manager.get(key_of(number)) is None for number in numbers if number not in found)


def store_all(manager, numbers):
    for number in numbers:
        store(manager, number)


def store(manager, number):
    key = key_of(number)
    assert manager.contains(key) is None
    chunk = manager.allocate(SHAPE, torch.bfloat16, MemoryFormat.KV_2LTD)
    chunk.tensor.copy_(values(number))
    manager.batched_put([key], [chunk])
    until(lambda: manager.contains(key))  # it writes behind the call


def assert_loaded(manager, number):
    chunk = manager.get(key_of(number))
    assert torch.equal(chunk.tensor, values(number))
    chunk.ref_count_down()


def key_of(number) -> CacheEngineKey:
    return CacheEngineKey("model", 1, 0, number, torch.bfloat16)


def values(number) -> torch.Tensor:
    random = torch.Generator().manual_seed(number)
    return torch.randn(SHAPE, generator=random).to(torch.bfloat16)
