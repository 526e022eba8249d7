"""What a client sees when the daemon restarts, dies or has no room."""

import time

import kv_data
import kvfs
import numpy as np
import pytest

GEOMETRY = kv_data.geometry(layers=8, kv_heads=4, head_dim=64)  # 128 KiB a block


def test_a_prefix_survives_a_restart_from_nvme(make_daemon):
    daemon = make_daemon(flags=["--keep-dram=false"])
    mount = str(daemon.mount)
    kvfs.create_namespace(mount, "ns", GEOMETRY)
    tokens = kv_data.random_tokens(1024, seed=81)
    kv = kv_data.random_kv(GEOMETRY, 1024, 81)
    with kvfs.open(mount, "ns") as namespace:
        kv_data.store(namespace, tokens, kv)
    daemon.stop()
    daemon.start()
    with kvfs.open(mount, "ns", GEOMETRY) as namespace:
        match = namespace.match(tokens)
        assert (match.blocks, match.dram_blocks) == (64, 0)
        assert np.array_equal(kv_data.load(namespace, match), kv)


def test_prefetch_brings_blocks_to_dram(make_daemon):
    daemon = make_daemon(flags=["--keep-dram=false"])
    mount = str(daemon.mount)
    kvfs.create_namespace(mount, "ns", GEOMETRY)
    tokens = kv_data.random_tokens(1024, seed=82)
    with kvfs.open(mount, "ns") as namespace:
        kv_data.store(namespace, tokens, kv_data.random_kv(GEOMETRY, 1024, 82))
    daemon.stop()
    daemon.start()
    with kvfs.open(mount, "ns") as namespace:
        namespace.prefetch(namespace.match(tokens))
        wait_until(lambda: namespace.match(tokens).dram_blocks == 64)


def test_a_daemon_that_is_back_is_found_by_the_first_call(make_daemon):
    daemon = make_daemon()
    mount = str(daemon.mount)
    kvfs.create_namespace(mount, "ns", GEOMETRY)
    tokens = kv_data.random_tokens(256, seed=85)
    with kvfs.open(mount, "ns") as namespace:
        kv_data.store(namespace, tokens, kv_data.random_kv(GEOMETRY, 256, 85))
        with namespace.acquire(tokens) as lease:
            lease.flush()
        for _ in range(5):  # whether its death was noticed before, or is by that call
            daemon.kill()
            daemon.start()
            time.sleep(0.15)  # the client looked for it in vain, at most 100 ms ago
            assert namespace.match(tokens).blocks == 16


def test_a_killed_daemon_is_unavailable_and_a_new_one_is_found(make_daemon):
    daemon = make_daemon()
    mount = str(daemon.mount)
    kvfs.create_namespace(mount, "ns", GEOMETRY)
    tokens = kv_data.random_tokens(256, seed=83)
    kv = kv_data.random_kv(GEOMETRY, 256, 83)
    namespace = kvfs.open(mount, "ns")
    kv_data.store(namespace, tokens, kv)
    with namespace.acquire(tokens) as lease:
        lease.flush()
    daemon.kill()
    with pytest.raises(kvfs.Error) as caught:
        namespace.reserve(kv_data.random_tokens(32, seed=84))
    assert isinstance(caught.value, (kvfs.Unavailable, kvfs.NotFound, kvfs.InputOutput))
    daemon.start()
    wait_until(lambda: kv_data.load(namespace, tokens) is not None)
    assert np.array_equal(kv_data.load(namespace, tokens), kv)
    namespace.close()


def test_a_store_full_of_leases_has_no_space(make_daemon):
    daemon = make_daemon(dram="64MiB", nvme=None)
    mount = str(daemon.mount)
    kvfs.create_namespace(mount, "ns", GEOMETRY)
    leases = []
    with kvfs.open(mount, "ns") as namespace:

        def fill():
            for seed in range(900, 1000):
                tokens = kv_data.random_tokens(512, seed)
                kv_data.store(namespace, tokens, kv_data.random_kv(GEOMETRY, 512, seed))
                leases.append(namespace.acquire(tokens))

        with pytest.raises(kvfs.NoSpace) as caught:
            fill()
        assert str(caught.value)
        assert 4 <= len(leases) < 64
        for lease in leases:
            lease.release()
        tokens = kv_data.random_tokens(512, seed=1001)
        assert kv_data.store(namespace, tokens, kv_data.random_kv(GEOMETRY, 512, 1)).committed == 32


def wait_until(condition, timeout=10):
    deadline = time.monotonic() + timeout
    while True:
        try:
            if condition():
                return
        except kvfs.Error:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.02)
