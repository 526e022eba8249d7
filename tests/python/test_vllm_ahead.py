"""The vLLM connector's worker maps DRAM behind its start: on a real mount, without vLLM."""

import logging
import time
from pathlib import Path

import kv_data
import kvfs
import numpy as np
from kvfs.vllm.messages import Load, Run, Step
from kvfs.vllm.worker import Worker

BLOCKS = 8


def mapped_bytes(name):
    """Of a namespace's slabs, in this process."""
    total = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        if f"/{name}/.kvfs/slabs/" in line:
            begin, end = line.split()[0].split("-")
            total += int(end, 16) - int(begin, 16)
    return total


def paged(kv):
    split = kv.reshape(*kv.shape[:2], BLOCKS, 16, *kv.shape[3:])
    return kvfs.Pages(split, "layers kv pages tokens heads dim")


def stored(mount, name):
    """(tokens, KV) of a namespace of which nothing is mapped here."""
    geometry = kv_data.geometry()
    kvfs.create_namespace(mount, name, geometry)
    tokens = kv_data.random_tokens(BLOCKS * 16, seed=1)
    kv = kv_data.random_kv(geometry, BLOCKS * 16, seed=1)
    with kvfs.open(mount, name) as namespace:
        kv_data.store(namespace, tokens, kv)
    return tokens, kv


def test_dram_is_mapped_before_the_first_load_and_that_is_right(daemon):
    tokens, kv = stored(daemon.mount, "ahead")
    with kvfs.open(daemon.mount, "ahead") as namespace:
        assert mapped_bytes("ahead") == 0
        loaded = np.zeros_like(kv)
        worker = Worker(namespace, [paged(loaded)])
        worker._ahead.close()
        before = mapped_bytes("ahead")
        assert before > 0
        run = Run(0, np.arange(BLOCKS, dtype=np.int32))
        key = namespace.match(tokens).key
        worker.load(Step(loads=[Load("r", key, (run,), BLOCKS, BLOCKS)]))
        finished, failed = set(), []
        while not finished:
            finished, failed = worker.poll()
        assert not failed
        assert np.array_equal(loaded, kv)
        assert mapped_bytes("ahead") == before
        worker.close()


def test_half_of_dram_is_mapped_for_what_will_be_stored(daemon):
    stored(daemon.mount, "provided")
    with kvfs.open(daemon.mount, "provided") as namespace:
        kv = kv_data.random_kv(namespace.geometry, BLOCKS * 16, seed=2)
        none = Worker(namespace, [paged(kv)], provide=0)
        none.close()
        before = mapped_bytes("provided")
        worker = Worker(namespace, [paged(kv)])
        worker._ahead.close()
        assert (provided := mapped_bytes("provided")) > before > 0
        tokens = kv_data.random_tokens(BLOCKS * 16, seed=2)
        kv_data.store(namespace, tokens, kv)
        assert mapped_bytes("provided") == provided
        assert np.array_equal(kv_data.load(namespace, tokens), kv)
        worker.close()


def test_a_daemon_that_is_gone_is_logged_and_the_next_one_is_mapped(make_daemon, caplog):
    daemon = make_daemon()
    tokens, kv = stored(daemon.mount, "gone")
    with kvfs.open(daemon.mount, "gone") as namespace:
        daemon.kill()
        with caplog.at_level(logging.WARNING, "vllm.kvfs"):
            worker = Worker(namespace, [paged(np.zeros_like(kv))])
            worker.close()
        assert "DRAM is mapped as it is used" in caplog.text
        assert mapped_bytes("gone") == 0
        daemon.start()
        deadline = time.monotonic() + 30
        while mapped_bytes("gone") == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert mapped_bytes("gone") > 0
        assert np.array_equal(kv_data.load(namespace, tokens), kv)
