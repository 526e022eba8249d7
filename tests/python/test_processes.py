"""Several processes on one namespace."""

import multiprocessing
import os

import kv_data
import kvfs
import numpy as np
import pytest

spawn = multiprocessing.get_context("spawn")


def in_processes(target, arguments):
    """Runs target(*arguments[i]) in a process each; their results."""
    with spawn.Pool(len(arguments)) as pool:
        return pool.starmap(target, arguments)


def write(mount, name, seed):
    with kvfs.open(mount, name) as namespace:
        tokens = kv_data.random_tokens(160, seed)
        commit = kv_data.store(namespace, tokens, kv_data.random_kv(namespace.geometry, 160, seed))
        return commit.committed, commit.present


def read(mount, name, seed):
    with kvfs.open(mount, name) as namespace:
        loaded = kv_data.load(namespace, kv_data.random_tokens(160, seed))
        return np.array_equal(loaded, kv_data.random_kv(namespace.geometry, 160, seed))


def write_rank(mount, name, reservation_id, first_block, count, rank):
    """What a tensor-parallel rank does in a process of its own: its two heads."""
    with kvfs.open(mount, name) as namespace:
        kv = kv_data.random_kv(namespace.geometry, 160, 43)[:, :, :, rank * 2 : rank * 2 + 2]
        with namespace.join(reservation_id, first_block, count) as reservation:
            reservation.store(kvfs.Pages(kv, kv_data.PLAIN, first_head=rank * 2))
    return True


def test_one_writes_another_reads(namespace):
    place = (namespace.mount, namespace.name)
    assert in_processes(write, [(*place, 41)]) == [(10, 0)]
    assert in_processes(read, [(*place, 41)] * 2) == [True, True]
    assert namespace.match(kv_data.random_tokens(160, 41)).blocks == 10


def test_writers_of_the_same_prompt_publish_it_once(namespace):
    results = in_processes(write, [(namespace.mount, namespace.name, 42)] * 3)
    assert sum(committed for committed, _ in results) == 10
    assert read(namespace.mount, namespace.name, 42)


def test_ranks_write_their_heads_and_one_commits(namespace):
    place = (namespace.mount, namespace.name)
    tokens = kv_data.random_tokens(160, seed=43)
    with namespace.reserve(tokens) as reservation:
        what = (reservation.id, reservation.first_block, reservation.count)
        assert all(in_processes(write_rank, [(*place, *what, rank) for rank in range(2)]))
        assert reservation.commit().committed == 10
    assert read(*place, 43)


def test_objects_do_not_survive_fork(namespace):
    tokens = kv_data.random_tokens(32, seed=44)
    kv = kv_data.random_kv(namespace.geometry, 32, 44)
    kv_data.store(namespace, tokens, kv)
    lease = namespace.acquire(tokens)
    child = os.fork()
    if child == 0:
        wrong = 0
        calls = (
            lambda: namespace.match(tokens),
            lambda: namespace.acquire(tokens),
            lambda: lease.load(kvfs.Pages(np.zeros_like(kv), kv_data.PLAIN)),
        )
        for call in calls:
            try:
                call()
                wrong += 1
            except kvfs.Forked:
                pass
        lease.release()
        with kvfs.open(namespace.mount, namespace.name) as own:
            wrong += not np.array_equal(kv_data.load(own, tokens), kv)
        os._exit(wrong)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    loaded = np.zeros_like(kv)
    with lease:
        lease.load(kvfs.Pages(loaded, kv_data.PLAIN))
    assert np.array_equal(loaded, kv)


@pytest.mark.parametrize("end", ["exit", "kill"])
def test_a_client_that_dies_leaves_nothing_behind(namespace, end):
    tokens = kv_data.random_tokens(64, seed=45)
    child = os.fork()
    if child == 0:
        own = kvfs.open(namespace.mount, namespace.name)
        reservation = own.reserve(tokens)
        kv = kv_data.random_kv(own.geometry, 64, 45)
        reservation.store(kvfs.Pages(kv, kv_data.PLAIN))
        os._exit(0) if end == "exit" else os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    assert not namespace.match(tokens)
    assert write(namespace.mount, namespace.name, 45) == (10, 0)
