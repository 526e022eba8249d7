"""Loads that a request's step need not wait for to the end: the worker's side, on a real mount."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import kv_data
import kvfs
import numpy as np
import pytest
from kvfs.vllm import loading
from kvfs.vllm.loading import HeadStart, Loading, layer_blocks, layer_step
from kvfs.vllm.messages import Load, Run, Step
from kvfs.vllm.worker import Worker
from test_vllm_sides import has_leases

BLOCKS = 96
LAYERS = [f"model.layers.{index}.attn" for index in range(8)]


def large_geometry():
    """Of 96 blocks 48 MiB, which take so long that a copy of them is seen on its way."""
    return kv_data.geometry(layers=len(LAYERS), kv_heads=8, head_dim=128)


@pytest.fixture
def large(make_namespace):
    return make_namespace(large_geometry())


@pytest.fixture
def by_single_layers(monkeypatch):
    monkeypatch.setattr(loading, "_LEAST_BYTES", 0)
    monkeypatch.setattr(loading, "_PIECE_BYTES", 1)


class Engine:
    """A worker with one page for each block; `kv` is stored, `cache` is loaded into."""

    def __init__(self, namespace, **options):
        self.namespace = namespace
        self.tokens = kv_data.random_tokens(BLOCKS * 16, seed=1)
        self.kv = kv_data.random_kv(namespace.geometry, BLOCKS * 16, seed=2)
        kv_data.store(namespace, self.tokens, self.kv)
        self.cache = np.zeros_like(self.kv)
        self.worker = Worker(namespace, self.pages(), layers=LAYERS, **options)

    def pages(self):
        split = self.cache.reshape(*self.cache.shape[:2], BLOCKS, 16, *self.cache.shape[3:])
        return [kvfs.Pages(split, "layers kv pages tokens heads dim")]

    def load(self):
        key = self.namespace.match(self.tokens).key
        run = Run(0, np.arange(BLOCKS, dtype=np.int32))
        return Load("r", key, (run,), BLOCKS, BLOCKS)

    def arriving(self):
        """Begins loads until one is told of before its end; its request's next step."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            self.cache[:] = 0
            self.worker.flush(Step())
            self.worker.load(Step(loads=[self.load()]))
            finished = set()
            while not finished:
                finished, failed = self.worker.poll()
                assert not failed
            assert finished == {"r"}
            if self.worker._arriving:
                return Step(computes=True, loaded={"r"})
        raise AssertionError("every load has ended before anybody looked")


@pytest.fixture
def engine(large, by_single_layers):
    engine = Engine(large)
    yield engine
    engine.worker.close()


def test_a_step_begins_before_its_load_has_ended_and_waits_at_each_layer(engine):
    step = engine.arriving()
    engine.worker.flush(step)
    assert engine.worker._arriving
    for index, name in enumerate(LAYERS):
        engine.worker.wait_layer(name)
        assert np.array_equal(engine.cache[index], engine.kv[index])
    assert not engine.worker._arriving
    assert engine.worker.poll() == (set(), [])
    loaded = engine.worker.report().loaded[-1]
    assert (loaded.blocks, loaded.dram_blocks) == (BLOCKS, BLOCKS)
    assert loaded.seconds > 0


@pytest.mark.parametrize("step", [Step(computes=True), Step(computes=True, loaded={"another"})])
def test_no_other_step_begins_before_the_load_has_ended(engine, step):
    engine.arriving()
    engine.worker.flush(step)
    assert not engine.worker._arriving
    assert np.array_equal(engine.cache, engine.kv)


def test_no_load_begins_before_that_of_a_request_without_a_step_has_ended(engine):
    engine.arriving()
    engine.worker.flush(Step(loads=[engine.load()]))
    assert not engine.worker._arriving


def test_nobody_waits_for_more_than_the_end_of_an_aborted_requests_load(engine):
    engine.arriving()
    (under_way,) = engine.worker._arriving
    under_way._again = None  # is not called
    engine.worker.flush(Step(gone={"r"}))
    assert not engine.worker._arriving
    assert under_way.done


def test_an_aborted_requests_load_is_not_told_of_before_its_end(engine):
    engine.worker.load(Step(loads=[engine.load()]))
    engine.worker.flush(Step(gone={"r"}))
    finished = set()
    while not finished:
        finished, failed = engine.worker.poll()
        assert not failed
        assert not engine.worker._arriving
    assert not engine.worker._gone
    assert np.array_equal(engine.cache, engine.kv)


def test_a_forward_that_does_not_ask_for_layers_has_all_of_them(engine):
    step = engine.arriving()
    engine.worker.flush(step)
    engine.worker.wait_layers()
    assert np.array_equal(engine.cache, engine.kv)


def test_an_engine_that_ends_waits_for_what_is_arriving(engine):
    engine.arriving()
    engine.worker.close()
    assert np.array_equal(engine.cache, engine.kv)


def test_what_was_lost_on_its_way_is_loaded_again_or_ends_the_engine(engine, monkeypatch):
    with ThreadPoolExecutor(1) as clocks:
        options = {"stream": 0, "timeout": 10, "head_start": HeadStart(), "clocks": clocks}
        under_way = Loading(engine.namespace, engine.pages(), engine.load(), **options)
        under_way.wait()
        engine.cache[:] = 0
        under_way._again()
        assert np.array_equal(engine.cache, engine.kv)
        Path(engine.namespace.path(under_way.load.key)).unlink()
        monkeypatch.setattr(loading, "_AGAIN_S", 0.2)
        with pytest.raises(RuntimeError, match="96 blocks of r were lost"):
            under_way._again()


def test_what_was_loaded_again_is_there_for_all_layers(engine):
    with ThreadPoolExecutor(1) as clocks:
        options = {"stream": 0, "timeout": 10, "head_start": HeadStart(), "clocks": clocks}
        under_way = Loading(engine.namespace, engine.pages(), engine.load(), **options)
        under_way.end()
        engine.cache[:] = 0
        again, times = under_way._again, []

        def lost():
            raise kvfs.Corrupt("lost on its way")

        under_way.end = lost
        under_way._again = lambda: times.append(again())
        for layers in range(1, 1 + len(LAYERS)):
            under_way.wait_layers(layers)
            assert np.array_equal(engine.cache, engine.kv)
        assert len(times) == 1


def test_an_engine_without_steps_holds_no_lease(engine, daemon):
    engine.arriving()
    assert has_leases(daemon, engine.namespace, 0)
    assert engine.worker._arriving


def test_which_loads_come_by_layers(large, make_namespace):
    llama = kvfs.Geometry("llama", "bfloat16", kvfs.Group(32, 8, 128))

    def load(blocks, in_dram=None):
        return Load("r", "", (), blocks, blocks if in_dram is None else in_dram)

    assert layer_step(llama, load(512)) == 8
    assert layer_step(llama, load(63)) == 0  # less than 128 MiB
    assert layer_step(llama, load(512, in_dram=511)) == 0
    assert layer_step(large.geometry, load(4096)) == 0  # a step of 8 would be all of them
    packed = kvfs.Geometry("llama", "bfloat16", kvfs.Group(32, 8, 128), encoding="packed")
    assert layer_step(packed, load(512)) == 11
    assert layer_step(packed, load(63)) == 0


def test_how_many_blocks_come_by_layers():
    llama = kvfs.Geometry("llama", "bfloat16", kvfs.Group(32, 8, 128))
    # 30 ms of 50 GB/s behind the first quarter of the layers: 2 GB in blocks of 2 MiB.
    assert layer_blocks(llama, 8, 0.03) == 954
    fp8 = kvfs.Geometry("llama", "bfloat16", kvfs.Group(32, 8, 128), encoding="fp8")
    assert layer_blocks(fp8, 8, 0.03) == 1908


def test_a_request_alone_is_told_of_as_early_as_its_step_takes(engine):
    """And no earlier than the step that was waited for would need."""
    seconds = engine.worker._head_start.alone
    step = engine.arriving()
    engine.worker.flush(step)
    for name in LAYERS:
        engine.worker.wait_layer(name)
    assert engine.worker._head_start.alone < seconds  # nothing was computed in between
