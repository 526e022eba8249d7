"""The vLLM connector's two sides without vLLM: requests and steps as it gives them, a real mount.

tests/engines has the same with real engines.
"""

import contextlib
import json
import time
from types import SimpleNamespace

import kv_data
import kvfs
import numpy as np
import pytest
from kvfs.vllm.identity import cacheable, extras
from kvfs.vllm.messages import Load, Report, Run, Step
from kvfs.vllm.scheduler import Scheduler
from kvfs.vllm.worker import Unattached, Worker

BLOCK = 16


def make_request(tokens, request_id="r", **more):
    tokens = [int(token) for token in tokens]
    request = SimpleNamespace(
        request_id=request_id,
        prompt_token_ids=tokens,
        all_token_ids=list(tokens),
        num_tokens=len(tokens),
        num_prompt_tokens=len(tokens),
        **more,
    )
    return request


def sampled(request, tokens):
    request.all_token_ids += [int(token) for token in tokens]
    request.num_tokens = len(request.all_token_ids)


def first_step(request, pages, computed, scheduled):
    new = SimpleNamespace(
        req_id=request.request_id, block_ids=(pages,), num_computed_tokens=computed
    )
    return output([new], [], {request.request_id: scheduled})


def next_step(request, new_pages, computed, scheduled):
    row = (request.request_id, (new_pages,) if new_pages else None, computed)
    return output([], [row], {request.request_id: scheduled})


def output(new, rows, scheduled):
    cached = SimpleNamespace(
        req_ids=[row[0] for row in rows],
        new_block_ids=[row[1] for row in rows],
        num_computed_tokens=[row[2] for row in rows],
        resumed_req_ids=set(),
    )
    return SimpleNamespace(
        scheduled_new_reqs=new, scheduled_cached_reqs=cached, num_scheduled_tokens=scheduled
    )


def stored(engine, seed):
    """A request of two blocks and a token, which are computed and stored."""
    request = make_request(kv_data.random_tokens(2 * BLOCK + 1, seed=seed))
    engine.scheduler.match(request, 0)
    engine.run(engine.scheduler.build(first_step(request, [0, 1, 2], 0, 2 * BLOCK + 1)))
    return request


def begin_load(engine, request, request_id="again"):
    """The same prompt once more: vLLM has made room for its blocks."""
    again = make_request(request.prompt_token_ids, request_id)
    assert engine.scheduler.match(again, 0) == 2 * BLOCK
    engine.scheduler.allocated(again, ([3, 4, 5],), 2 * BLOCK)
    return again


def pages_of(loads):
    return {page for load in loads for run in load.runs for page in run.pages.tolist()}


def load_of(key, pages):
    run = Run(0, np.array(pages, np.int32))
    return Load("r", key, (run,), len(pages), 0)


class Engine:
    """Pages of random KV, and both sides on one namespace."""

    def __init__(self, namespace, seed=0, **options):
        group = namespace.geometry.groups[0]
        shape = (group.layers, 64, group.kv_heads, 2, BLOCK, group.head_dim)
        self.cache = np.random.default_rng(seed).integers(0, 65_535, shape, dtype=np.uint16)
        pages = kvfs.Pages(self.cache, "layers pages heads kv tokens dim")
        self.worker = Worker(namespace, [pages])
        self.scheduler = Scheduler(namespace, **options)

    def run(self, step):
        """One step of the worker, its stores and loads awaited; what it reports."""
        self.worker.flush(step)
        self.worker.load(step)
        self.worker.store(step)
        for _, store in list(self.worker._stores._under_way.values()):
            store.exception()
        finished, self.bad_pages = set(), set()
        while len(finished) < len(step.loads):
            more, failed = self.worker.poll()
            finished |= more
            self.bad_pages |= pages_of(failed)
        report = self.worker.report()
        self.scheduler.learn(report, finished)
        return report


@pytest.fixture
def opaque(make_namespace):
    return make_namespace(kv_data.geometry(layout="opaque:test"))


@contextlib.contextmanager
def engines_of(kind, namespace):
    """make(**options): an engine of this kind, of other KV than the ones before; closed at the end."""
    engines = []

    def make(**options):
        engines.append(kind(namespace, seed=len(engines), **options))
        return engines[-1]

    yield make
    for engine in engines:
        engine.worker.close()
        engine.scheduler.close()


@pytest.fixture
def make_engine(opaque):
    with engines_of(Engine, opaque) as make:
        yield make


def has_leases(daemon, namespace, count):
    """Whether the daemon comes to see so many; the kernel tells it of a close afterwards."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        stats = json.loads((daemon.mount / ".kvfs/stats.json").read_text())["namespaces"]
        if next(n["leases_open"] for n in stats if n["name"] == namespace.name) == count:
            return True
        time.sleep(0.01)
    return False


def test_blocks_are_stored_as_they_fill_and_found_by_another_engine(make_engine, daemon, opaque):
    one, two = make_engine(), make_engine()
    tokens = kv_data.random_tokens(100, seed=1)
    request = make_request(tokens[:90])
    one.scheduler.add(request)
    assert one.scheduler.match(request, 0) == 0
    for step, blocks in (
        (first_step(request, [3, 9, 5], 0, 40), 2),  # a chunk of the prompt
        (next_step(request, [1, 8, 2], 40, 50), 5),
    ):
        one.run(one.scheduler.build(step))
        assert opaque.match(tokens).blocks == blocks
    for position in range(90, 97):  # decoding: token 95 fills block 5
        sampled(request, [tokens[position]])
        one.run(one.scheduler.build(next_step(request, [4] if position == 96 else [], position, 1)))
    assert opaque.match(tokens).blocks == 6

    other = make_request(tokens, "other")
    assert two.scheduler.match(other, 0) == 96
    two.scheduler.allocated(other, ([10, 11, 12, 13, 14, 15, 16],), 96)
    assert has_leases(daemon, opaque, 1)
    step = two.scheduler.build(output([], [], {}))
    two.run(step)
    assert has_leases(daemon, opaque, 0)
    assert not two.bad_pages
    there, here = [3, 9, 5, 1, 8, 2], [10, 11, 12, 13, 14, 15]
    assert (two.cache[:, here] == one.cache[:, there]).all()
    # What was loaded is not stored again.
    assert not two.scheduler.build(first_step(other, [*here, 16], 96, 4)).stores


def test_only_what_the_engine_lacks_is_loaded(make_engine):
    one, two = make_engine(), make_engine()
    tokens = kv_data.random_tokens(64, seed=2)
    request = make_request(tokens)
    one.scheduler.match(request, 0)
    one.run(one.scheduler.build(first_step(request, [0, 1, 2, 3], 0, 64)))
    assert two.scheduler.match(request, 32) == 32
    before = two.cache.copy()
    two.scheduler.allocated(request, ([20, 21, 22, 23],), 32)
    two.run(two.scheduler.build(output([], [], {})))
    assert (two.cache[:, [22, 23]] == one.cache[:, [2, 3]]).all()
    assert (two.cache[:, [20, 21]] == before[:, [20, 21]]).all()
    assert two.scheduler.hit_tokens(request, 32) == (32, 0)
    assert two.scheduler.match(request, 64) == 0


def test_tokens_that_are_not_known_yet_are_not_stored(make_engine):
    """With asynchronous scheduling a step computes a token that another is still sampling."""
    engine = make_engine()
    request = make_request(kv_data.random_tokens(31, seed=3))
    engine.scheduler.match(request, 0)
    assert len(engine.scheduler.build(first_step(request, [0, 1], 0, 31)).stores) == 1
    assert not engine.scheduler.build(next_step(request, [], 31, 1)).stores
    sampled(request, [5])
    (store,) = engine.scheduler.build(next_step(request, [2], 32, 1)).stores
    assert (store.first_block, len(store.pages[0]), len(store.tokens)) == (1, 2, 32)
    assert store.tokens[31] == 5


def test_prompts_only_where_decoded_blocks_are_not_wanted(make_engine):
    engine = make_engine(store_decode=False)
    request = make_request(kv_data.random_tokens(20, seed=4))
    engine.scheduler.match(request, 0)
    assert len(engine.scheduler.build(first_step(request, [0, 1], 0, 20)).stores) == 1
    sampled(request, range(20))
    assert not engine.scheduler.build(next_step(request, [2], 20, 20)).stores


def test_a_store_ends_before_its_pages_are_reused(make_engine, opaque):
    engine = make_engine()
    request = make_request(kv_data.random_tokens(48, seed=5))
    engine.scheduler.match(request, 0)
    step = engine.scheduler.build(first_step(request, [7, 8, 9], 0, 48))
    (store,) = step.stores
    engine.scheduler.finished(request.request_id)  # its pages are vLLM's again
    other = make_request(kv_data.random_tokens(32, seed=6), "other")
    engine.scheduler.match(other, 0)
    apart = engine.scheduler.build(first_step(other, [10, 11], 0, 16))
    assert not apart.flush
    reusing = engine.scheduler.build(next_step(other, [8], 16, 16))
    assert reusing.flush == {store.job}
    engine.worker.store(step)
    engine.worker.flush(reusing)
    assert engine.worker._stores._under_way[store.job][1].done()
    engine.run(apart)
    third = make_request(kv_data.random_tokens(16, seed=7), "third")
    engine.scheduler.match(third, 0)
    assert not engine.scheduler.build(first_step(third, [9], 0, 16)).flush  # reported since


def test_all_stores_that_read_a_page_end_before_it_is_reused(make_engine):
    """Two requests have the pages of their common beginning in common, in vLLM's own cache."""
    engine = make_engine()
    tokens = kv_data.random_tokens(48, seed=26)
    jobs = []
    for request_id, pages in (("one", [7, 8]), ("two", [7, 8, 9])):
        request = make_request(tokens[: 16 * len(pages)], request_id)
        engine.scheduler.match(request, 0)
        step = engine.scheduler.build(first_step(request, pages, 0, 16 * len(pages)))
        jobs.append(step.stores[0].job)
        engine.scheduler.finished(request_id)
    other = make_request(kv_data.random_tokens(32, seed=27), "other")
    engine.scheduler.match(other, 0)
    assert engine.scheduler.build(first_step(other, [8], 0, 16)).flush == set(jobs)
    engine.scheduler.learn(Report(stored=jobs[:1]), ())
    assert engine.scheduler.build(next_step(other, [7], 16, 16)).flush == {jobs[1]}


def test_a_store_that_was_refused_is_tried_again_later(make_engine, monkeypatch):
    monkeypatch.setattr("kvfs.vllm.scheduler._REFUSED_S", 60.0)
    engine = make_engine()
    request = make_request(kv_data.random_tokens(64, seed=28))
    engine.scheduler.match(request, 0)
    assert engine.scheduler.build(first_step(request, [0, 1], 0, 32)).stores
    engine.scheduler.learn(Report(stored=[1], lost=["r"], refused=["r"]), ())
    assert not engine.scheduler.build(next_step(request, [2], 32, 16)).stores
    engine.scheduler._requests["r"].stores_from = 0.0
    (store,) = engine.scheduler.build(next_step(request, [3], 48, 16)).stores
    assert (store.first_block, len(store.pages[0])) == (0, 4)


def test_a_load_also_ends_stores_that_read_its_pages(make_engine):
    engine = make_engine()
    stored = make_request(kv_data.random_tokens(32, seed=8))
    engine.scheduler.match(stored, 0)
    engine.run(engine.scheduler.build(first_step(stored, [0, 1], 0, 32)))
    other = make_request(kv_data.random_tokens(16, seed=9), "other")
    engine.scheduler.match(other, 0)
    (store,) = engine.scheduler.build(first_step(other, [5], 0, 16)).stores
    engine.scheduler.finished("other")
    again = make_request(stored.prompt_token_ids, "again")
    assert engine.scheduler.match(again, 0) == 32
    engine.scheduler.allocated(again, ([5, 6],), 32)
    assert engine.scheduler.build(output([], [], {})).flush == {store.job}


def test_a_load_that_fails_names_its_pages_and_is_not_offered_again(make_engine, opaque):
    engine = make_engine()
    request = make_request(kv_data.random_tokens(32, seed=10))
    engine.scheduler.match(request, 0)
    engine.run(engine.scheduler.build(first_step(request, [0, 1], 0, 32)))
    assert engine.scheduler.match(request, 0) == 32
    engine.run(Step(loads=[load_of("0" * 31 + "1", [40, 41])]))
    assert engine.bad_pages == {40, 41}
    assert engine.scheduler.match(request, 0) == 0
    fresh = make_request(request.prompt_token_ids, "fresh")
    assert engine.scheduler.match(fresh, 0) == 32


def test_without_a_namespace_loads_fail_and_stores_have_ended(make_engine):
    engine = make_engine()
    engine.worker.close()
    engine.worker = Unattached()
    request = make_request(kv_data.random_tokens(32, seed=16))
    engine.scheduler.match(request, 0)
    step = engine.scheduler.build(first_step(request, [0, 1], 0, 32))
    step.loads.append(load_of("0" * 32, [7, 8]))
    engine.worker.flush(step)
    engine.worker.load(step)
    engine.worker.store(step)
    finished, failed = engine.worker.poll()
    assert (finished, pages_of(failed)) == ({"r"}, {7, 8})
    report = engine.worker.report()
    assert report.stored == [step.stores[0].job] and report.failed == report.lost == ["r"]
    assert not engine.worker.report()
    assert engine.worker.poll() == (set(), [])
    engine.worker.leads = False  # the first rank may have that store under way
    engine.worker.store(step)
    assert not engine.worker.report()


@pytest.mark.parametrize("learns_by", ["load", "store"])
def test_a_worker_that_never_will_is_asked_for_nothing_more(make_engine, learns_by):
    engine = make_engine()
    request = make_request(kv_data.random_tokens(32, seed=33))
    engine.scheduler.match(request, 0)
    step = engine.scheduler.build(first_step(request, [0, 1], 0, 32))
    engine.run(step)
    engine.worker.close()
    engine.worker = Unattached()
    engine.worker.for_good = True
    assert engine.scheduler.match(make_request(request.prompt_token_ids, "before"), 0) == 32
    if learns_by == "load":
        engine.worker.load(Step(loads=[load_of("0" * 32, [7, 8])]))
    else:
        engine.worker.store(step)
    engine.scheduler.learn(engine.worker.report(), set())
    after = make_request(request.prompt_token_ids, "after")
    assert engine.scheduler.match(after, 0) == 0
    assert engine.scheduler.build(first_step(after, [0, 1], 0, 32)).stores == []
    assert not engine.worker.report()


def test_a_prompt_that_another_engine_computes_is_awaited(make_engine, monkeypatch):
    one, two = make_engine(), make_engine()
    tokens = kv_data.random_tokens(40, seed=17)
    request = make_request(tokens)
    one.scheduler.match(request, 0)
    passed_on = {"kv_transfer_params": {"do_remote_prefill": True}}
    awaiting = make_request(tokens, "awaiting", **passed_on)
    assert two.scheduler.match(awaiting, 0) is None
    one.run(one.scheduler.build(first_step(request, [0, 1, 2], 0, 40)))
    assert two.scheduler.match(awaiting, 0) == 32
    monkeypatch.setattr("kvfs.vllm.scheduler._PREFILL_S", 0.0)
    lost = make_request(kv_data.random_tokens(40, seed=18), "lost", **passed_on)
    assert two.scheduler.match(lost, 0) == 0


def test_an_aborted_request_holds_no_lease(make_engine, daemon, opaque):
    engine = make_engine()
    request = make_request(kv_data.random_tokens(32, seed=11))
    engine.scheduler.match(request, 0)
    engine.run(engine.scheduler.build(first_step(request, [0, 1], 0, 32)))
    again = make_request(request.prompt_token_ids, "again")
    engine.scheduler.match(again, 0)
    engine.scheduler.allocated(again, ([2, 3],), 32)
    assert has_leases(daemon, opaque, 1)
    engine.scheduler.finished("again")
    assert has_leases(daemon, opaque, 0)


def test_the_worker_is_told_which_step_is_a_loads_and_of_those_that_have_none(make_engine):
    engine = make_engine()
    request = stored(engine, seed=24)
    for request_id in ("kept", "gone"):
        again = begin_load(engine, request, request_id)
        step = engine.scheduler.build(output([], [], {}))
        assert not step.computes
        engine.run(step)
        if request_id == "kept":
            step = engine.scheduler.build(first_step(again, [3, 4, 5], 32, 1))
            assert (step.computes, step.loaded, step.gone) == (True, {"kept"}, set())
            engine.scheduler.finished("kept")
            assert engine.scheduler.build(output([], [], {})).gone == set()
        else:
            engine.scheduler.finished("gone")
            step = engine.scheduler.build(output([], [], {}))
            assert (step.computes, step.loaded, step.gone) == (False, set(), {"gone"})


def test_the_step_after_a_load_that_failed_on_some_rank_is_not_that_loads(make_engine):
    """Other ranks may have told of it early: they end it first, and nobody misses what they miss."""
    engine = make_engine()
    request = stored(engine, seed=29)
    again = begin_load(engine, request)
    engine.scheduler.build(output([], [], {}))
    engine.scheduler.learn(Report(failed=["again"]), {"again"})
    step = engine.scheduler.build(first_step(again, [3, 4, 5], 0, 33))
    assert (step.loaded, step.gone) == (set(), {"again"})


def test_the_worker_is_told_of_a_request_that_goes_while_it_loads(make_engine):
    """It may have told of the load already, in a report that is on its way."""
    engine = make_engine()
    request = stored(engine, seed=25)
    begin_load(engine, request)
    assert len(engine.scheduler.build(output([], [], {})).loads) == 1
    engine.scheduler.finished("again")
    assert engine.scheduler.build(output([], [], {})).gone == {"again"}


def test_when_the_beginning_was_evicted_the_whole_is_stored_again(make_engine, daemon, opaque):
    engine = make_engine()
    request = make_request(kv_data.random_tokens(64, seed=12))
    engine.scheduler.match(request, 0)
    engine.run(engine.scheduler.build(first_step(request, [0, 1], 0, 32)))
    match = opaque.match(request.prompt_token_ids)
    (daemon.mount / opaque.name / f"{match.key}.safetensors").unlink()
    report = engine.run(engine.scheduler.build(next_step(request, [2], 32, 16)))
    assert report.lost == ["r"]
    engine.run(engine.scheduler.build(next_step(request, [3], 48, 16)))
    assert opaque.match(request.prompt_token_ids).blocks == 4


def test_after_a_block_that_does_not_pack_nothing_is_tried(make_namespace):
    """Random bits do not: in a packed namespace a prefix ends before them."""
    namespace = make_namespace(kv_data.geometry(head_dim=64, encoding="packed"))
    engine = Engine(namespace)
    group = namespace.geometry.groups[0]
    shape = (group.layers, group.kv_heads, 2, BLOCK, group.head_dim)
    numbers = np.random.default_rng(1).standard_normal(shape, np.float32)
    engine.cache[:, 0] = numbers.view(np.uint32) >> 16  # as those of a model
    request = make_request(kv_data.random_tokens(64, seed=19))
    engine.scheduler.match(request, 0)
    report = engine.run(engine.scheduler.build(first_step(request, [0, 1], 0, 32)))
    assert (report.stored_blocks, report.cut) == (1, ["r"])
    assert namespace.match(request.prompt_token_ids).blocks == 1
    assert not engine.scheduler.build(next_step(request, [2], 32, 16)).stores
    engine.worker.close()
    engine.scheduler.close()


@pytest.mark.parametrize("forgets", [True, False])
def test_after_a_reset_nothing_old_is_found(make_engine, forgets):
    engine = make_engine(forget_on_reset=forgets)
    tokens = kv_data.random_tokens(32, seed=13)
    request = make_request(tokens)
    engine.scheduler.match(request, 0)
    engine.run(engine.scheduler.build(first_step(request, [0, 1], 0, 32)))
    engine.scheduler.reset()
    assert engine.scheduler.match(make_request(tokens, "after"), 0) == (0 if forgets else 32)


@pytest.mark.parametrize(
    "other",
    [
        {"cache_salt": "tenant"},
        {"lora_request": SimpleNamespace(lora_name="a", lora_int_id=1, lora_path="/a")},
        {
            "mm_features": [
                SimpleNamespace(identifier="image", mm_position=SimpleNamespace(offset=3, length=4))
            ]
        },
    ],
)
def test_what_else_decides_the_kv_is_in_the_key(make_engine, other):
    engine = make_engine()
    tokens = kv_data.random_tokens(32, seed=14)
    with_it = make_request(tokens, "with", **other)
    engine.scheduler.match(with_it, 0)
    engine.run(engine.scheduler.build(first_step(with_it, [0, 1], 0, 32)))
    assert engine.scheduler.match(make_request(tokens, "without"), 0) == 0
    assert engine.scheduler.match(make_request(tokens, "again", **other), 0) == 32


def test_extras_of_blocks():
    image = SimpleNamespace(identifier="i", mm_position=SimpleNamespace(offset=20, length=30))
    request = make_request([1] * 64, cache_salt="s", mm_features=[image])
    found = extras(request, BLOCK)
    assert list(found) == [0, 1, 2, 3]
    assert len(set(found.values())) == 4
    assert extras(make_request([1]), BLOCK) is None
    # Parts are told apart whatever they contain.
    lora = SimpleNamespace(lora_name="a", lora_int_id=1, lora_path="b")
    shifted = SimpleNamespace(lora_name="a1:b", lora_int_id=1, lora_path="")
    assert extras(make_request([1], lora_request=lora), BLOCK) != extras(
        make_request([1], lora_request=shifted), BLOCK
    )


def test_what_tokens_do_not_name_is_not_cached(make_engine):
    assert not cacheable(make_request([1], prompt_embeds=object()))
    assert not cacheable(make_request([1], resumable=True))
    with_image = make_request([1], mm_features=[object()])
    assert cacheable(with_image)
    assert not cacheable(with_image, images=False)
    assert cacheable(make_request([1], mm_features=[]), images=False)
    engine = make_engine()
    request = make_request(kv_data.random_tokens(32, seed=15), prompt_embeds=object())
    engine.scheduler.add(request)
    assert engine.scheduler.match(request, 0) == 0
    assert not engine.scheduler.build(first_step(request, [0, 1], 0, 32)).stores
