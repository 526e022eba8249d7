"""The vLLM connector's two sides with several groups of layers, one with a sliding window; no vLLM.

Block tables are as vLLM gives them: page 0 stands where a window has passed.
"""

from types import SimpleNamespace

import kv_data
import kvfs
import numpy as np
import pytest
from kvfs.vllm.messages import Step
from kvfs.vllm.scheduler import Scheduler
from kvfs.vllm.worker import Worker
from test_vllm_sides import make_request, output

BLOCK = 16
WINDOW = 32  # two blocks
GROUPS = (kvfs.Group(2, 2, 8), kvfs.Group(1, 2, 8, window=WINDOW))
AXES = "layers pages heads kv tokens dim"


class Engine:
    """Pages of random KV of two groups, and both sides on one namespace."""

    def __init__(self, namespace, seed):
        random = np.random.default_rng(seed)
        self.caches = [
            random.integers(0, 65_535, (g.layers, 64, 2, 2, BLOCK, 8), dtype=np.uint16)
            for g in GROUPS
        ]
        self.worker = Worker(namespace, [kvfs.Pages(cache, AXES) for cache in self.caches])
        self.scheduler = Scheduler(namespace)

    def run(self, step):
        self.worker.flush(step)
        self.worker.load(step)
        self.worker.store(step)
        for _, store in list(self.worker._stores._under_way.values()):
            store.exception()
        finished, failed = set(), []
        while len(finished) < len(step.loads):
            more, failures = self.worker.poll()
            finished |= more
            failed += failures
        report = self.worker.report()
        self.scheduler.learn(report, finished)
        return failed

    def prefill(self, request, tables, chunks):
        """Chunks of so many tokens; each step tells of the pages that it adds."""
        self.scheduler.match(request, 0)
        computed = 0
        for chunk in chunks:
            known, computed = computed // BLOCK, computed + chunk
            pages = tuple(table[known : -(-computed // BLOCK)] for table in tables)
            if known == 0:
                new = SimpleNamespace(
                    req_id=request.request_id, block_ids=pages, num_computed_tokens=0
                )
                step = output([new], [], {request.request_id: chunk})
            else:
                row = (request.request_id, pages, computed - chunk)
                step = output([], [row], {request.request_id: chunk})
            self.run(self.scheduler.build(step))


@pytest.fixture
def hybrid(make_namespace):
    return make_namespace(kvfs.Geometry("test/hybrid", "bfloat16", GROUPS, block_tokens=BLOCK))


@pytest.fixture
def engines(hybrid):
    made = [Engine(hybrid, seed) for seed in range(2)]
    yield made
    for engine in made:
        engine.worker.close()
        engine.scheduler.close()


STORED = ([1, 2, 3, 4, 5, 6], [11, 12, 13, 14, 15, 16])


def test_of_a_window_only_its_end_is_loaded(engines, hybrid):
    one, two = engines
    tokens = kv_data.random_tokens(6 * BLOCK + 1, seed=1)
    one.prefill(make_request(tokens), STORED, [48, 48, 1])
    assert hybrid.match(tokens).blocks == 6
    before = [cache.copy() for cache in two.caches]
    request = make_request(tokens, "other")
    assert two.scheduler.match(request, 0) == 6 * BLOCK
    tables = ([21, 22, 23, 24, 25, 26], [0, 0, 0, 0, 35, 36])
    two.scheduler.allocated(request, tables, 6 * BLOCK)
    assert not two.run(two.scheduler.build(output([], [], {})))
    assert (two.caches[0][:, tables[0]] == one.caches[0][:, STORED[0]]).all()
    assert (two.caches[1][:, [35, 36]] == one.caches[1][:, [15, 16]]).all()
    assert (two.caches[1][:, 0] == before[1][:, 0]).all()
    assert two.scheduler.counts.take() == {"loads": 1, "tokens_dram": 6 * BLOCK}


def test_the_last_token_is_always_computed(engines):
    """vLLM takes it off a whole hit, and its window may begin a block earlier."""
    one, two = engines
    tokens = kv_data.random_tokens(4 * BLOCK, seed=2)
    one.prefill(make_request(tokens), STORED, [64])
    assert two.scheduler.match(make_request(tokens, "other"), 0) == 3 * BLOCK


def test_what_follows_a_hit_is_stored_without_what_the_window_has_passed(engines, hybrid):
    one, two = engines
    tokens = kv_data.random_tokens(8 * BLOCK + 1, seed=3)
    one.prefill(make_request(tokens[: 6 * BLOCK + 1]), STORED, [97])
    request = make_request(tokens, "other")
    assert two.scheduler.match(request, 0) == 6 * BLOCK
    tables = ([21, 22, 23, 24, 25, 26, 27, 28, 29], [0, 0, 0, 0, 35, 36, 37, 38, 39])
    two.scheduler.allocated(request, tables, 6 * BLOCK)
    two.run(two.scheduler.build(output([], [], {})))
    new = SimpleNamespace(req_id="other", block_ids=tables, num_computed_tokens=6 * BLOCK)
    (store,) = two.scheduler.build(output([new], [], {"other": 2 * BLOCK + 1})).stores
    assert store.first_block == 6
    two.run(Step(stores=[store]))
    assert hybrid.match(tokens).blocks == 8


def test_blocks_that_the_window_has_passed_are_not_stored_from_reused_pages(
    engines, hybrid, daemon
):
    one, _ = engines
    tokens = kv_data.random_tokens(6 * BLOCK, seed=4)
    request = make_request(tokens)
    one.prefill(request, STORED, [64])
    match = hybrid.match(tokens)
    (daemon.mount / hybrid.name / f"{match.key}.safetensors").unlink()
    assert hybrid.match(tokens).blocks < 4
    for computed in (64, 80):  # the first finds the beginning gone, the second may not store it
        row = ("r", ([5], [15]), computed)
        one.run(one.scheduler.build(output([], [row], {"r": BLOCK})))
    assert hybrid.match(tokens).blocks < 4


def test_a_hit_that_is_cut_has_the_window_of_where_it_is_cut(engines, monkeypatch):
    one, two = engines
    tokens = kv_data.random_tokens(6 * BLOCK + 1, seed=5)
    one.prefill(make_request(tokens), STORED, [97])
    monkeypatch.setattr(two.scheduler.speeds, "worth", lambda blocks, dram: 3)
    request = make_request(tokens, "other")
    assert two.scheduler.match(request, 0) == 3 * BLOCK
    two.scheduler.allocated(request, ([21, 22, 23], [0, 32, 33]), 3 * BLOCK)
    assert not two.run(two.scheduler.build(output([], [], {})))
    assert (two.caches[0][:, [21, 22, 23]] == one.caches[0][:, [1, 2, 3]]).all()
    assert (two.caches[1][:, [32, 33]] == one.caches[1][:, [12, 13]]).all()


def test_a_failed_load_of_several_groups_is_told_whole(engines):
    one, two = engines
    tokens = kv_data.random_tokens(2 * BLOCK + 1, seed=6)
    one.prefill(make_request(tokens), STORED, [33])
    request = make_request(tokens, "other")
    assert two.scheduler.match(request, 0) == 2 * BLOCK
    two.scheduler.allocated(request, ([21, 22], [31, 32]), 2 * BLOCK)
    step = two.scheduler.build(output([], [], {}))
    step.loads[0].key = "0" * 31 + "1"
    (failed,) = two.run(step)
    assert failed.request_id == "other"
    assert two.scheduler.counts.take() == {"failed_loads": 1}
    assert two.scheduler.match(request, 0) == 0
