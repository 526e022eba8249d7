"""Pages whose memory goes, and blocks that went bad: the connector's worker on a real mount, without
vLLM."""

import time

import kv_data
import kvfs
import numpy as np
from kvfs.vllm.messages import Load, Step, Store
from test_vllm_loading import BLOCKS, Engine, large_geometry


def outcome(worker):
    """Of the one load: whether it failed."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        finished, failed = worker.poll()
        if finished:
            return failed
        time.sleep(0.001)
    raise AssertionError("the load does not end")


def test_nothing_reads_or_writes_pages_that_are_settled(make_namespace):
    large = make_namespace(large_geometry())
    engine = Engine(large)
    engine.worker.load(Step(loads=[engine.load()]))
    engine.worker.settle()
    assert np.array_equal(engine.cache, engine.kv)
    engine.cache[:] = 0
    assert not outcome(engine.worker)
    assert not engine.cache.any()

    tokens = kv_data.random_tokens(BLOCKS * 16, seed=3)
    stored = engine.cache[:] = kv_data.random_kv(large.geometry, BLOCKS * 16, seed=4)
    pages = (np.arange(BLOCKS, dtype=np.int32),)
    engine.worker.store(Step(stores=[Store(1, "r", tokens, None, 0, pages)]))
    engine.worker.settle()
    engine.cache[:] = 0
    report = engine.worker.report()
    assert (report.stored, report.stored_blocks, report.lost) == ([1], BLOCKS, [])
    assert np.array_equal(kv_data.load(large, tokens), stored)
    engine.worker.close()


def test_a_block_that_went_bad_is_computed_and_not_offered_again(make_daemon):
    daemon = make_daemon()
    kvfs.create_namespace(daemon.mount, "bad", large_geometry())
    with kvfs.open(daemon.mount, "bad") as namespace:
        engine = Engine(namespace)
        match = namespace.match(engine.tokens)
        with namespace.acquire(match) as lease:
            lease.flush()
        daemon.control({"op": "evict", "tier": "dram", "bytes": 1 << 40}, "bad")
        segment = next((daemon.disk / "segments").iterdir())
        with segment.open("r+b") as file:
            file.seek(12345)
            byte = file.read(1)
            file.seek(12345)
            file.write(bytes([byte[0] ^ 1]))
        load = engine.load()
        engine.worker.load(Step(loads=[Load("r", match.key, load.runs, BLOCKS, 0)]))
        (failed,) = outcome(engine.worker)
        assert failed.request_id == "r"
        assert engine.worker.report().failed == ["r"]
        assert namespace.match(engine.tokens).blocks < BLOCKS
        engine.worker.close()
