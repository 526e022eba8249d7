"""Tensor-parallel ranks of the vLLM connector that fill one reservation together; no vLLM."""

import threading
import uuid

import kv_data
import kvfs
import numpy as np
import pytest
from kvfs.vllm.failures import Failures
from kvfs.vllm.messages import Report, Step, Store
from kvfs.vllm.ranks import Follower, Leader, Share
from kvfs.vllm.stores import JoiningStores, LeadingStores

HEADS, BLOCK = 4, 16


def test_shares_of_heads():
    def of_all(ranks, total, heads):
        return [Share.of(rank, ranks, total, heads) for rank in range(ranks)]

    even = of_all(ranks=2, total=8, heads=4)
    assert [(s.first_head, s.writes, s.writers) for s in even] == [(0, True, 2), (4, True, 2)]
    copies = of_all(ranks=4, total=2, heads=1)  # ranks 0 and 1 have head 0, 2 and 3 head 1
    assert [s.first_head for s in copies] == [0, 0, 1, 1]
    assert [s.writes for s in copies] == [True, False, True, False]
    assert {s.writers for s in copies} == {2}
    assert Share.of(0, 1, 3, 3) == Share(0, 0, True, 1)
    with pytest.raises(ValueError, match="3 KV heads"):
        Share.of(0, 2, 3, 1)


class Rank:
    """Pages of half the heads."""

    def __init__(self, namespace, number):
        group = namespace.geometry.groups[0]
        shape = (group.layers, 16, HEADS // 2, 2, BLOCK, group.head_dim)
        self.cache = np.random.default_rng(number).integers(0, 65_535, shape, dtype=np.uint16)
        axes = "layers pages heads kv tokens dim"
        self.pages = [kvfs.Pages(self.cache, axes, first_head=number * HEADS // 2)]


@pytest.fixture
def opaque(make_namespace):
    return make_namespace(kv_data.geometry(kv_heads=HEADS, layout="opaque:test"))


@pytest.fixture
def ranks(opaque):
    """(rank 0, rank 1), connected."""
    engine = str(uuid.uuid4())
    one, two = Rank(opaque, 0), Rank(opaque, 1)
    leader = Leader(engine, 1)
    two.stores = JoiningStores(opaque, two.pages, Failures(), Follower(engine))
    one.stores = LeadingStores(opaque, one.pages, Failures(), leader)
    assert leader.connected.wait(60)
    yield one, two
    two.stores.close()
    one.stores.close()


def store_of(tokens, job=1, pages=(3, 9)):
    table = np.array(pages, np.int32)
    return Store(job, "r", np.array(tokens, np.int32), None, 0, (table,))


def reported(stores, job):
    """What is reported of a job once it has ended."""
    ended = threading.Event()
    while True:
        report = Report()
        stores.report(report)
        if job in report.stored:
            return report
        ended.wait(0.01)


@pytest.mark.parametrize("first", [0, 1])
def test_both_fill_their_heads_whichever_is_first(ranks, opaque, first):
    tokens = kv_data.random_tokens(32, seed=1)
    step = Step(stores=[store_of(tokens)])
    for rank in (ranks[first], ranks[1 - first]):
        rank.stores.begin(step, 0)
    report = reported(ranks[0].stores, 1)
    assert not report.lost
    assert report.stored_blocks == 2
    group = opaque.geometry.groups[0]
    loaded = np.zeros((group.layers, 2, HEADS, 2, BLOCK, group.head_dim), np.uint16)
    with opaque.acquire(tokens) as lease:
        lease.load(
            kvfs.Pages(loaded, "layers pages heads kv tokens dim"),
            page_table=np.array([0, 1], np.int32),
        )
    for number, rank in enumerate(ranks):
        heads = slice(number * HEADS // 2, (number + 1) * HEADS // 2)
        assert (loaded[:, :, heads] == rank.cache[:, [3, 9]]).all()


def test_a_store_that_one_rank_has_flushed_is_not_published(ranks, opaque):
    tokens = kv_data.random_tokens(32, seed=2)
    step = Step(stores=[store_of(tokens)])
    ranks[1].stores.begin(step, 0)
    ranks[1].stores.flush(Step(flush={1}))
    ranks[0].stores.begin(step, 0)
    assert reported(ranks[0].stores, 1).lost == ["r"]
    assert opaque.match(tokens).blocks == 0
    # The next one is stored again, and an answer never belongs to another store.
    again = Step(stores=[store_of(tokens, job=2)])
    for rank in ranks:
        rank.stores.begin(again, 0)
    assert not reported(ranks[0].stores, 2).lost
    assert opaque.match(tokens).blocks == 2


def test_stores_that_have_ended_are_forgotten(ranks):
    tokens = kv_data.random_tokens(32, seed=3)
    stores = ranks[1].stores
    stores.begin(Step(stores=[store_of(tokens, job=1), store_of(tokens, job=2)]), 0)
    stores.flush(Step(ended=[1]))  # also in steps without a forward
    assert list(stores._waiting) == [2]


def test_without_the_other_rank_nothing_is_stored(opaque):
    rank = Rank(opaque, 0)
    stores = LeadingStores(opaque, rank.pages, Failures(), Leader(str(uuid.uuid4()), 1))
    tokens = kv_data.random_tokens(32, seed=4)
    stores.begin(Step(stores=[store_of(tokens)]), 0)
    assert reported(stores, 1).lost == ["r"]
    assert opaque.match(tokens).blocks == 0
    stores.close()


def test_a_rank_that_ends_is_no_more_than_a_miss(opaque):
    engine = str(uuid.uuid4())
    rank = Rank(opaque, 0)
    leader = Leader(engine, 1)

    def leave(*request):
        raise EOFError  # as a process that dies while it is asked

    follower = Follower(engine)
    follower.start(leave)
    stores = LeadingStores(opaque, rank.pages, Failures(), leader)
    assert leader.connected.wait(60)
    for job in (1, 2):
        tokens = kv_data.random_tokens(32, seed=4 + job)
        stores.begin(Step(stores=[store_of(tokens, job=job)]), 0)
        assert reported(stores, job).lost == ["r"]
        assert opaque.match(tokens).blocks == 0
    stores.close()
