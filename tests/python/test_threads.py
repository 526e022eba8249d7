"""One namespace, many threads."""

from concurrent.futures import ThreadPoolExecutor

import kv_data
import numpy as np


def test_threads_store_and_load_their_own(namespace):
    def work(seed):
        tokens = kv_data.random_tokens(96, seed)
        kv = kv_data.random_kv(namespace.geometry, 96, seed)
        committed = kv_data.store(namespace, tokens, kv).committed
        return committed, np.array_equal(kv_data.load(namespace, tokens), kv)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(600, 664))) == [(6, True)] * 64


def test_threads_share_one_lease_and_one_prefix(namespace):
    tokens = kv_data.random_tokens(320, seed=61)
    kv = kv_data.random_kv(namespace.geometry, 320, 61)

    def write(_):
        return kv_data.store(namespace, tokens, kv).committed

    def read(_):
        import kvfs

        loaded = np.zeros_like(kv)
        lease.load(kvfs.Pages(loaded, kv_data.PLAIN))
        return np.array_equal(loaded, kv)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(write, range(8))) == 20
        with namespace.acquire(tokens) as lease:
            assert all(pool.map(read, range(32)))


def test_matching_while_others_store(namespace):
    """A match only ever grows, and what it found loads right."""
    prompts = [kv_data.random_tokens(48, seed) for seed in range(700, 732)]
    kvs = [kv_data.random_kv(namespace.geometry, 48, seed) for seed in range(700, 732)]

    def write(i):
        return kv_data.store(namespace, prompts[i], kvs[i])

    with ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(write, i) for i in range(32)]
        found = set()
        while len(found) < 32:
            for i, tokens in enumerate(prompts):
                match = namespace.match(tokens)
                assert match.blocks in ((3,) if i in found else (0, 3))
                if match and i not in found:
                    found.add(i)
                    assert np.array_equal(kv_data.load(namespace, match), kvs[i])
        assert all(job.result().committed == 3 for job in writing)
