"""Publishing: all of it or nothing."""

import kv_data
import kvfs
import pytest


def test_leaving_without_commit_stores_nothing(namespace):
    tokens = kv_data.random_tokens(64, seed=31)
    kv = kv_data.random_kv(namespace.geometry, 64, 31)
    with namespace.reserve(tokens) as reservation:
        reservation.store(kvfs.Pages(kv, kv_data.PLAIN))
    assert not namespace.match(tokens)


def test_an_exception_stores_nothing(namespace):
    tokens = kv_data.random_tokens(64, seed=32)
    kv = kv_data.random_kv(namespace.geometry, 64, 32)

    def fail_midway():
        with namespace.reserve(tokens) as reservation:
            reservation.store(kvfs.Pages(kv, kv_data.PLAIN))
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        fail_midway()
    assert not namespace.match(tokens)


def test_only_what_is_missing_is_reserved(namespace):
    tokens = kv_data.random_tokens(128, seed=33)
    kv = kv_data.random_kv(namespace.geometry, 128, 33)
    kv_data.store(namespace, tokens[:64], kv)
    with namespace.reserve(tokens) as reservation:
        assert (reservation.first_block, reservation.count) == (4, 4)
        reservation.store(kvfs.Pages(kv, kv_data.PLAIN))
        assert reservation.commit().committed == 4
    assert (kv_data.load(namespace, tokens) == kv).all()
    with namespace.reserve(tokens) as reservation:
        assert reservation.count == 0


def test_commit_of_a_beginning(namespace):
    tokens = kv_data.random_tokens(128, seed=34)
    kv = kv_data.random_kv(namespace.geometry, 128, 34)
    with namespace.reserve(tokens) as reservation:
        reservation.store(kvfs.Pages(kv, kv_data.PLAIN), count=5)
        with pytest.raises(ValueError, match="end_block"):
            reservation.commit(end_block=0)
        commit = reservation.commit(end_block=5)
    assert commit.committed == 5
    assert namespace.match(tokens).blocks == 5
    assert commit.key == namespace.match(tokens).key
    assert f"committed=5, present=0, key='{commit.key}'" in repr(commit)


def test_the_first_commit_wins(namespace):
    tokens = kv_data.random_tokens(64, seed=35)
    first, second = (kv_data.random_kv(namespace.geometry, 64, seed) for seed in (35, 36))
    with namespace.reserve(tokens) as one, namespace.reserve(tokens) as two:
        one.store(kvfs.Pages(first, kv_data.PLAIN))
        two.store(kvfs.Pages(second, kv_data.PLAIN))
        assert one.commit().committed == 4
        late = two.commit()
        assert (late.committed, late.present) == (0, 4)
    assert (kv_data.load(namespace, tokens) == first).all()


def test_read_only_clients_cannot_reserve(make_namespace):
    namespace = make_namespace(read_only=True)
    with pytest.raises(kvfs.Error, match="read"):
        namespace.reserve([1] * 16)


def test_flush_makes_it_durable(namespace):
    tokens = kv_data.random_tokens(64, seed=37)
    kv_data.store(namespace, tokens, kv_data.random_kv(namespace.geometry, 64, 37))
    with namespace.acquire(tokens) as lease:
        lease.flush(timeout=30)
