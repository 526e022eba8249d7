"""What the vLLM connector tells of blocks that come and go; a real mount, no vLLM."""

import kv_data
import pytest
from kvfs.vllm.events import Events, Removed, Stored
from test_vllm_sides import (
    BLOCK,
    Engine,
    engines_of,
    first_step,
    make_request,
    next_step,
    output,
    sampled,
)


def hashes_of(tokens) -> list[bytes]:
    """A name for each full block, made of all tokens up to its end, as vLLM's are."""
    ends = range(BLOCK, len(tokens) + 1, BLOCK)
    return [repr([int(token) for token in tokens[:end]]).encode() for end in ends]


def request_of(tokens, request_id="r"):
    return make_request(tokens, request_id, block_hashes=hashes_of(tokens))


class FollowedEngine(Engine):
    def __init__(self, namespace, seed=0):
        self.events = Events(namespace)
        super().__init__(namespace, seed, events=self.events)

    def prefill(self, tokens, pages, request_id="r"):
        request = request_of(tokens, request_id)
        computed = self.scheduler.match(request, 0)
        if computed:
            self.scheduler.allocated(request, (pages,), computed)
            self.run(self.scheduler.build(output([], [], {})))
        self.run(self.scheduler.build(first_step(request, pages, computed, len(tokens) - computed)))
        return request


@pytest.fixture
def namespace(make_namespace):
    return make_namespace(kv_data.geometry(layout="opaque:test"))


@pytest.fixture
def make_engine(namespace):
    with engines_of(FollowedEngine, namespace) as make:
        yield make


def remove(daemon, namespace, tokens):
    """As whoever may: the prefix file of these tokens."""
    key = namespace.match(tokens).key
    (daemon.mount / namespace.name / f"{key}.safetensors").unlink()


def test_what_is_stored_is_told_of_once_behind_what_it_follows(make_engine):
    engine = make_engine()
    tokens = kv_data.random_tokens(4 * BLOCK, seed=1)
    hashes = hashes_of(tokens)
    request = engine.prefill(tokens[: 2 * BLOCK], [0, 1])
    assert engine.events.take() == [Stored(hashes[:2], None, tokens[: 2 * BLOCK].tolist(), None)]
    for block in (2, 3):  # decoding
        new = tokens[block * BLOCK : (block + 1) * BLOCK]
        sampled(request, new)
        request.block_hashes = hashes[: block + 1]
        engine.run(engine.scheduler.build(next_step(request, [block], block * BLOCK, BLOCK)))
        assert engine.events.take() == [
            Stored([hashes[block]], hashes[block - 1], new.tolist(), None)
        ]
    assert engine.events.take() == []


def test_what_another_engine_stored_is_told_of_when_it_is_loaded(make_engine):
    one, two = make_engine(), make_engine()
    tokens = kv_data.random_tokens(3 * BLOCK + 5, seed=2)
    one.prefill(tokens, [0, 1, 2, 3])
    two.prefill(tokens, [4, 5, 6, 7])
    (told,) = two.events.take()
    assert (told.hashes, told.parent) == (hashes_of(tokens), None)


def test_what_has_left_is_told_of_whatever_took_it_away(make_engine, daemon, namespace):
    engine = make_engine()
    shared = kv_data.random_tokens(2 * BLOCK, seed=3)
    first, second = (
        [*shared.tolist(), *kv_data.random_tokens(BLOCK, seed=seed).tolist()] for seed in (4, 5)
    )
    engine.prefill(first, [0, 1, 2], "first")
    engine.prefill(second, [3, 4, 5], "second")
    told = [hash_ for event in engine.events.take() for hash_ in event.hashes]
    assert sorted(told) == sorted({*hashes_of(first), *hashes_of(second)})

    def told_within(rounds):
        return [event for _ in range(rounds) for event in engine.events.take()]

    remove(daemon, namespace, first)
    assert told_within(2) == [Removed([hashes_of(first)[2]])]
    remove(daemon, namespace, second)  # nobody else has what the first one shared with it
    gone = [hash_ for event in told_within(4) for hash_ in event.hashes]
    assert sorted(gone) == sorted(hashes_of(second))
    assert told_within(4) == []
    engine.prefill(first, [0, 1, 2], "again")
    (again,) = engine.events.take()
    assert (again.hashes, again.parent) == (hashes_of(first), None)


def test_a_store_that_was_lost_is_not_told_of(make_engine):
    engine = make_engine()
    request = request_of(kv_data.random_tokens(2 * BLOCK, seed=6))
    engine.scheduler.match(request, 0)
    step = engine.scheduler.build(first_step(request, [0, 1], 0, 2 * BLOCK))
    engine.worker._stores._paused_until = float("inf")
    engine.run(step)
    assert engine.events.take() == []


def test_after_a_reset_nothing_is_there(make_engine):
    engine = make_engine()
    tokens = kv_data.random_tokens(2 * BLOCK, seed=7)
    engine.prefill(tokens, [0, 1])
    engine.events.take()
    engine.scheduler.reset()
    (gone,) = engine.events.take()
    assert sorted(gone.hashes) == sorted(hashes_of(tokens))
    assert engine.events.take() == []
