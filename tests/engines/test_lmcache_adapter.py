"""kvfs.lmcache as LMCache's factory makes it, with LMCache's own keys and memory; no server."""

import json
import select
import statistics
import time

import pytest

pytest.importorskip("lmcache")
torch = pytest.importorskip("torch")

from lmcache.v1.distributed.api import MemoryLayoutDesc, ObjectKey  # noqa: E402
from lmcache.v1.distributed.l2_adapters.factory import (  # noqa: E402
    create_l2_adapter_from_registry,
)
from lmcache.v1.distributed.l2_adapters.fs_l2_adapter import FSL2AdapterConfig  # noqa: E402
from lmcache.v1.distributed.l2_adapters.fs_native_l2_adapter import (  # noqa: E402
    FSNativeL2AdapterConfig,
)
from lmcache.v1.distributed.l2_adapters.plugin_l2_adapter import (  # noqa: E402
    PluginL2AdapterConfig,
)
from lmcache.v1.memory_management import MemoryObjMetadata, TensorMemoryObj  # noqa: E402

SHAPE = torch.Size([2, 3, 64, 32])
LAYOUT = {0: MemoryLayoutDesc([SHAPE], [torch.float16])}


def adapter_on(mount):
    config = PluginL2AdapterConfig.from_dict(
        {
            "module_path": "kvfs.lmcache",
            "class_name": "KvfsL2Adapter",
            "adapter_params": {"path": str(mount)},
        }
    )
    return create_l2_adapter_from_registry(config)


@pytest.fixture(scope="module")
def daemon(make_daemon):
    return make_daemon(dram="128MiB", nvme=None)


@pytest.fixture
def adapter(daemon):
    made = adapter_on(daemon.mount)
    yield made
    made.close()


def key(number, **more):
    fields = {"chunk_hash": number.to_bytes(32, "big"), "model_name": "org/Model", "kv_rank": 1}
    return ObjectKey(**(fields | more))


def memory(seed=None, shape=SHAPE):
    size = shape.numel() * torch.float16.itemsize
    raw = torch.zeros(size, dtype=torch.uint8)
    if seed is not None:
        raw.random_(generator=torch.manual_seed(seed))
    metadata = MemoryObjMetadata(
        shape, torch.float16, 0, size, 1, shapes=[shape], dtypes=[torch.float16]
    )
    return TensorMemoryObj(raw, metadata, None)


def awaited(descriptor, query):
    """As LMCache's controllers do: the descriptor tells, the query answers."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        select.select([descriptor], [], [], 1)
        result = query()
        if result:
            return result
    raise AssertionError("no result")


def store(adapter, keys, objects):
    task = adapter.submit_store_task(keys, objects)
    return awaited(adapter.get_store_event_fd(), adapter.pop_completed_store_tasks)[task]


def look_up(adapter, keys, layouts=LAYOUT):
    task = adapter.submit_lookup_and_lock_task(keys, layouts)
    found = awaited(
        adapter.get_lookup_and_lock_event_fd(), lambda: adapter.query_lookup_and_lock_result(task)
    )
    return found.get_indices_list()


def load(adapter, keys, objects):
    task = adapter.submit_load_task(keys, objects)
    loaded = awaited(adapter.get_load_event_fd(), lambda: adapter.query_load_result(task))
    return loaded.get_indices_list()


def leases(daemon, count):
    """Whether the daemon comes to see so many; the kernel tells it of a close afterwards."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        stats = json.loads((daemon.mount / ".kvfs/stats.json").read_text())["namespaces"]
        if sum(one["leases_open"] for one in stats) == count:
            return True
        time.sleep(0.01)
    return False


def test_three_descriptors(adapter):
    descriptors = {
        adapter.get_store_event_fd(),
        adapter.get_lookup_and_lock_event_fd(),
        adapter.get_load_event_fd(),
    }
    assert len(descriptors) == 3


def test_what_one_stored_another_locks_and_loads(daemon, adapter):
    keys, objects = [key(1), key(2)], [memory(1), memory(2)]
    result = store(adapter, keys, objects)
    assert result.is_successful()
    assert result.bytes_transferred() == 2 * objects[0].get_size()
    again = store(adapter, keys, objects)
    assert again.is_successful()
    assert again.bytes_transferred() == 0

    other = adapter_on(daemon.mount)
    assert look_up(other, [key(1), key(3), key(2)]) == [0, 2]
    assert leases(daemon, 2)
    targets = [memory(), memory(), memory()]
    assert load(other, [key(1), key(3), key(2)], targets) == [0, 2]
    assert torch.equal(targets[0].raw_data, objects[0].raw_data)
    assert torch.equal(targets[2].raw_data, objects[1].raw_data)
    other.submit_unlock([key(1)])
    assert leases(daemon, 1)
    other.submit_unlock([key(1), key(2), key(3)])
    assert leases(daemon, 0)
    look_up(other, [key(1)])
    other.close()
    assert leases(daemon, 0)


@pytest.mark.parametrize(
    "other",
    [{"kv_rank": 2}, {"model_name": "org/Other"}, {"cache_salt": "tenant"}, {"object_group_id": 1}],
)
def test_another_key_is_another_object(adapter, other):
    store(adapter, [key(10)], [memory(10)])
    layouts = LAYOUT | {1: LAYOUT[0]}
    assert look_up(adapter, [key(10), key(10, **other)], layouts) == [0]
    adapter.submit_unlock([key(10)])


def test_a_lookup_without_a_layout(adapter):
    store(adapter, [key(20)], [memory(20)])
    assert look_up(adapter, [key(20), key(21)], {}) == [0]
    adapter.submit_unlock([key(20)])


def test_without_the_daemon_tasks_end_and_fail(make_daemon):
    daemon = make_daemon(dram="64MiB", nvme=None)
    adapter = adapter_on(daemon.mount)
    assert store(adapter, [key(1)], [memory(1)]).is_successful()
    daemon.kill()
    assert look_up(adapter, [key(1)]) == []
    assert load(adapter, [key(1)], [memory()]) == []
    assert not store(adapter, [key(2)], [memory(2)]).is_successful()
    assert not adapter.report_status()["is_healthy"]
    adapter.close()


def test_a_configuration_without_a_path_is_refused():
    from kvfs.lmcache import KvfsL2Adapter

    with pytest.raises(ValueError, match="path"):
        KvfsL2Adapter({})
    with pytest.raises(ValueError, match="not known: pth"):
        KvfsL2Adapter({"path": "/kv", "pth": 1})


def test_beside_the_fs_adapters(make_daemon, tmp_path, capsys):
    """64 objects of 1 MiB, stored, locked and loaded as LMCache does with each; times are shown
    only."""
    count, shape = 64, torch.Size([2, 16, 64, 256])
    daemon = make_daemon(dram="256MiB", nvme=None)
    fs = {"base_path": str(tmp_path / "fs")}
    native = {"base_path": str(tmp_path / "native")}
    adapters = {
        "fs": create_l2_adapter_from_registry(FSL2AdapterConfig.from_dict(fs)),
        "fs_native": create_l2_adapter_from_registry(FSNativeL2AdapterConfig.from_dict(native)),
        "kvfs": adapter_on(daemon.mount),
    }
    keys = [key(number) for number in range(count)]
    objects = [memory(number, shape) for number in range(count)]
    times = {(what, name): [] for what in ("store", "look up", "load") for name in adapters}

    def timed(what, name, call, *arguments):
        began = time.perf_counter()
        result = call(adapters[name], *arguments)
        times[what, name].append(1e3 * (time.perf_counter() - began))
        return result

    for name in adapters:
        assert timed("store", name, store, keys, objects).is_successful()
    layouts = {0: MemoryLayoutDesc([shape], [torch.float16])}
    for _ in range(5):
        for name, adapter in adapters.items():
            targets = [memory(shape=shape) for _ in range(count)]
            found = timed("look up", name, look_up, keys, layouts)
            loaded = timed("load", name, load, keys, targets)
            assert found == loaded == list(range(count))
            for target, kept in zip(targets, objects, strict=True):
                assert torch.equal(target.raw_data, kept.raw_data)
            adapter.submit_unlock(keys)
    with capsys.disabled():
        print(f"\n  {count} MiB in objects of 1 MiB, LMCache's adapters, ms:")
        for name in adapters:
            medians = {what: statistics.median(times[what, name]) for what, _ in times}
            print(f"  {name:9}", ", ".join(f"{what} {ms:.1f}" for what, ms in medians.items()))
    for adapter in adapters.values():
        adapter.close()
