"""Copies in the background."""

import asyncio
import contextlib
import gc
import select
import threading
import time

import kv_data
import kvfs
import numpy as np
import pytest

TOKENS = 4096  # long enough that a copy does not end before the call returns


@pytest.fixture
def namespace(make_namespace):
    return make_namespace(kv_data.geometry(layers=8, kv_heads=4, head_dim=64))


@pytest.fixture
def stored(namespace):
    tokens = kv_data.random_tokens(TOKENS, seed=21)
    kv = kv_data.random_kv(namespace.geometry, TOKENS, 21)
    kv_data.store(namespace, tokens, kv)
    return tokens, kv


def test_wait(namespace, stored):
    tokens, kv = stored
    loaded = np.zeros_like(kv)
    with namespace.acquire(tokens) as lease:
        transfer = lease.load_async(kvfs.Pages(loaded, kv_data.PLAIN))
        transfer.wait(30)
        assert transfer.done
        transfer.wait()
    assert np.array_equal(loaded, kv)


@pytest.mark.parametrize("step", [1, 3, 8])
def test_layers_arrive_in_order(namespace, stored, step):
    tokens, kv = stored
    loaded = np.zeros_like(kv)
    with namespace.acquire(tokens) as lease:
        transfer = lease.load_async(kvfs.Pages(loaded, kv_data.PLAIN), layer_step=step)
        for layers in (1, 3, 4, 8):
            transfer.wait_layers(layers, timeout=30)
            assert transfer.layers >= layers
            assert np.array_equal(loaded[:layers], kv[:layers])
        transfer.wait(30)
    assert np.array_equal(loaded, kv)


@pytest.mark.parametrize("blocks", [1, 5, 1000])
def test_layers_of_the_last_blocks_arrive_in_order(namespace, stored, blocks):
    tokens, kv = stored
    loaded = np.zeros_like(kv)
    with namespace.acquire(tokens) as lease:
        pages = kvfs.Pages(loaded, kv_data.PLAIN)
        transfer = lease.load_async(pages, layer_step=3, layer_blocks=blocks)
        for layers in (1, 3, 4, 8):
            transfer.wait_layers(layers, timeout=30)
            assert np.array_equal(loaded[:layers], kv[:layers])
        transfer.wait(30)
    assert np.array_equal(loaded, kv)


@pytest.mark.parametrize("stream", [None, 0, 1])
def test_host_memory_has_no_stream(namespace, stored, stream):
    tokens, kv = stored
    loaded = np.zeros_like(kv)
    with namespace.acquire(tokens) as lease:
        lease.load(kvfs.Pages(loaded, kv_data.PLAIN), stream=stream)
    assert np.array_equal(loaded, kv)


def test_wait_that_is_too_short_raises_and_the_copy_goes_on(namespace, stored):
    tokens, kv = stored
    loaded = np.zeros_like(kv)
    with namespace.acquire(tokens) as lease:
        transfer = lease.load_async(kvfs.Pages(loaded, kv_data.PLAIN))
        with contextlib.suppress(TimeoutError):
            transfer.wait(0)
        transfer.wait(30)
    assert np.array_equal(loaded, kv)


def test_descriptor_becomes_readable(namespace, stored):
    tokens, kv = stored
    loaded = np.zeros_like(kv)
    with namespace.acquire(tokens) as lease:
        transfer = lease.load_async(kvfs.Pages(loaded, kv_data.PLAIN))
        assert select.select([transfer], [], [], 30)[0]
        assert transfer.done
    assert np.array_equal(loaded, kv)


def test_await_many(namespace, stored):
    tokens, kv = stored
    parts = [np.zeros_like(kv) for _ in range(4)]

    async def load_all():
        with namespace.acquire(tokens) as lease:
            pages = [kvfs.Pages(part, kv_data.PLAIN) for part in parts]
            await asyncio.gather(*(wait_for(lease.load_async(page)) for page in pages))

    async def wait_for(transfer):
        await transfer
        assert transfer.done

    asyncio.run(load_all())
    assert all(np.array_equal(part, kv) for part in parts)


def test_many_await_one(namespace, stored):
    tokens, kv = stored
    loaded = np.zeros_like(kv)

    async def wait_for(transfer):
        await transfer
        assert transfer.done

    async def load():
        with namespace.acquire(tokens) as lease:
            transfer = lease.load_async(kvfs.Pages(loaded, kv_data.PLAIN))
            await asyncio.wait_for(asyncio.gather(*(wait_for(transfer) for _ in range(3))), 30)

    asyncio.run(load())
    assert np.array_equal(loaded, kv)


def test_store_in_the_background(namespace):
    tokens = kv_data.random_tokens(TOKENS, seed=22)
    kv = kv_data.random_kv(namespace.geometry, TOKENS, 22)
    with namespace.reserve(tokens) as reservation:
        halves = [
            reservation.store_async(
                kvfs.Pages(kv, kv_data.PLAIN), first_block=first, count=TOKENS // 32
            )
            for first in (0, TOKENS // 32)
        ]
        for half in halves:
            half.wait(30)
        assert reservation.commit().committed == TOKENS // 16
    assert np.array_equal(kv_data.load(namespace, tokens), kv)


def test_memory_is_let_go_of_when_the_copy_is_complete(namespace, stored):
    tokens, kv = stored
    whole_at_the_end = []

    class Watched(np.ndarray):
        def __del__(self):
            whole_at_the_end.append(np.array_equal(np.asarray(self), kv))

    with namespace.acquire(tokens) as lease:
        lease.load_async(kvfs.Pages(np.zeros_like(kv).view(Watched), kv_data.PLAIN))
        gc.collect()
    assert whole_at_the_end == [True]


def test_a_transfer_keeps_all_it_needs(namespace, stored):
    """Its tensors, its lease and the namespace may be let go in any order."""
    tokens, kv = stored
    loaded = np.zeros_like(kv)
    lease = namespace.acquire(tokens)
    transfer = lease.load_async(kvfs.Pages(loaded.view(), kv_data.PLAIN))
    lease.release()
    namespace.close()
    del lease
    gc.collect()
    transfer.wait(30)
    assert np.array_equal(loaded, kv)


def test_dropping_a_transfer_waits_for_it(namespace, stored):
    tokens, kv = stored
    loaded = np.zeros_like(kv)
    with namespace.acquire(tokens) as lease:
        lease.load_async(kvfs.Pages(loaded, kv_data.PLAIN))
        gc.collect()
        assert np.array_equal(loaded, kv)


def test_other_threads_run_meanwhile(namespace, stored):
    """The interpreter is not held while a load copies."""
    tokens, kv = stored
    loaded = np.zeros_like(kv)
    pages = kvfs.Pages(loaded, kv_data.PLAIN)
    stamps, stop = [], threading.Event()

    def tick():
        while not stop.is_set():
            stamps.append(time.perf_counter())
            time.sleep(0.0005)

    ticking = threading.Thread(target=tick)
    with namespace.acquire(tokens) as lease:
        ticking.start()
        begin = time.perf_counter()
        while time.perf_counter() - begin < 0.3:
            lease.load(pages)
        end = time.perf_counter()
        stop.set()
        ticking.join()
    # A load takes some milliseconds; ticks that had to wait for its end would be far fewer.
    assert len([stamp for stamp in stamps if begin < stamp < end]) > 60


def test_bad_timeouts(namespace, stored):
    tokens, kv = stored
    with namespace.acquire(tokens) as lease:
        for timeout in (-1, float("nan")):
            with pytest.raises(ValueError, match="a number of seconds >= 0, or None"):
                lease.load(kvfs.Pages(np.zeros_like(kv), kv_data.PLAIN), timeout=timeout)
