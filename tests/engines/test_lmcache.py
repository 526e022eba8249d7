"""vLLM with LMCache, whose server keeps its second level on a mount: by kvfs.lmcache, or by LMCache's
own adapters for files, unmodified, in a plain directory."""

import json

import numpy as np
import pytest
from engine_runs import tokens_of
from lmcache_server import CHUNK, ENVIRONMENT, INSTALLED, Server, transfer
from support.plain_directories import plain_directory, set_quota, settled, statistics, until

pytestmark = pytest.mark.skipif(not INSTALLED, reason="LMCache is not installed")

ANSWER = 24
# LMCache's adapters that keep a file for each chunk.
FILES = {
    "fs": {"type": "fs"},
    "fs-native": {"type": "fs_native", "use_odirect": True},
}
MAPPED = 256 << 20
SLOT = 16 << 20  # a chunk has 11 MiB


def kvfs_on(mount) -> dict:
    return {
        "type": "plugin",
        "module_path": "kvfs.lmcache",
        "class_name": "KvfsL2Adapter",
        "adapter_params": {"path": str(mount)},
    }


@pytest.fixture(scope="module")
def prompts(model):
    """One to be found again, and others."""
    tokens = tokens_of(model)
    return [tokens[:1100], *(tokens[begin : begin + 600] for begin in range(100, 1300, 200))]


@pytest.fixture(scope="module")
def plain(run_engine, prompts):
    """Without LMCache: what the tokens must be."""
    return run_engine("lmcache-plain", None, generate(prompts)).results()


def generate(prompts) -> dict:
    return {
        f"answer{number}": {"generate": prompt, "max_tokens": ANSWER}
        for number, prompt in enumerate(prompts)
    }


@pytest.fixture
def run(run_engine, tmp_path):
    """run(name, adapter, prompts, stored): a server and an engine on it, until `stored` is true."""

    def run_both(name, adapter, prompts, stored):
        server = Server(adapter, tmp_path / f"{name}.log").wait()
        try:
            results = run_engine(
                f"lmcache-{name}",
                None,
                generate(prompts),
                transfer=transfer(server.port),
                environment=ENVIRONMENT | {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"},
            ).results()
            until(stored, 60)  # the server stores behind the request
        finally:
            server.stop()
        return results

    return run_both


def assert_found(prompt, plain, stored, loaded):
    assert stored["tokens"] == loaded["tokens"] == plain["tokens"]
    assert stored["cached"] == 0
    assert loaded["cached"] == len(prompt) // CHUNK * CHUNK


def test_what_one_server_stored_the_next_one_has(run, make_daemon, prompts, plain):
    daemon = make_daemon(dram="512MiB", nvme=None)

    def stored():
        return blocks(daemon) >= len(prompts[0]) // CHUNK

    results = [
        run(name, kvfs_on(daemon.mount), prompts[:1], stored).answer0
        for name in ("stored", "loaded")
    ]
    assert_found(prompts[0], plain.answer0, *results)


@pytest.mark.parametrize("kind", FILES)
def test_files_of_one_server_in_the_next_one(run, make_daemon, prompts, plain, kind):
    """The second server has a quota smaller than what it writes."""
    daemon = make_daemon(dram="64MiB", nvme="1GiB", flags=["--plain-quota", "512MiB"])
    path = plain_directory(daemon, "lmcache", "512MiB")
    files = FILES[kind] | {"base_path": str(path)}
    chunks = len(prompts[0]) // CHUNK

    def stored():
        return statistics(daemon, path.name)["files"] >= chunks

    first = run(f"{kind}-stored", files, prompts[:1], stored).answer0
    settled(daemon)
    stats = statistics(daemon, path.name)
    assert stats["hits"] == 0
    room = 2 * stats["bytes"]
    set_quota(path, room)

    def evicted():
        return statistics(daemon, path.name)["evictions"]["files"] >= chunks

    results = run(f"{kind}-loaded", files, prompts, evicted)
    assert_found(prompts[0], plain.answer0, first, results.answer0)
    for number in range(len(prompts)):
        name = f"answer{number}"
        assert getattr(results, name)["tokens"] == getattr(plain, name)["tokens"]
    settled(daemon)
    until(lambda: statistics(daemon, path.name)["bytes"] <= room)
    stats = statistics(daemon, path.name)
    assert stats["hits"] >= chunks
    assert stats["evictions"]["corrupt"] == stats["evictions"]["incomplete"] == 0


def test_a_mapped_file(run_engine, make_daemon, prompts, plain, tmp_path):
    """LMCache's adapter for DAX devices maps one file for all chunks, and knows only in memory what
    is where: so one server, which is emptied between two requests."""
    daemon = make_daemon(dram="64MiB", nvme="1GiB", flags=["--plain-quota", "512MiB"])
    path = plain_directory(daemon, "lmcache", "512MiB")
    file = path / "mapped"
    with file.open("wb") as made:
        made.truncate(MAPPED)
    adapter = {"type": "dax", "device_path": str(file), "slot_bytes": SLOT}
    server = Server(adapter | {"max_dax_size_gb": MAPPED / 2**30}, tmp_path / "mapped.log").wait()
    chunks = len(prompts[0]) // CHUNK

    def stored():
        (second,) = server.storage()["l2_adapters"]
        return second["live_slot_count"] == chunks and second["inflight_store_tasks"] == 0

    def emptied():
        server.forget()  # but for what is being copied
        return server.storage()["l1_manager"]["total_object_count"] == 0

    try:
        asked = {"generate": prompts[0], "max_tokens": ANSWER}
        at_server = tmp_path / "at-server"
        run = run_engine(
            "lmcache-mapped",
            None,
            {
                "stored": asked,
                "forgotten": {"forget": None},
                "at the server": {"wait_for": str(at_server)},
                "loaded": asked,
            },
            transfer=transfer(server.port),
            environment=ENVIRONMENT | {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"},
        )
        run.until_step(at_server)
        until(stored, 60)
        until(emptied, 60)
        at_server.touch()
        results = run.results()
    finally:
        server.stop()
    assert results.forgotten
    assert_found(prompts[0], plain.answer0, results.stored, results.loaded)
    settled(daemon)
    evictions = statistics(daemon, path.name)["evictions"]
    assert evictions["corrupt"] == evictions["incomplete"] == 0
    assert np.fromfile(file, np.uint8).reshape(-1, SLOT).any(axis=1).sum() == chunks


def blocks(daemon) -> int:
    stats = json.loads((daemon.mount / ".kvfs/stats.json").read_text())
    return sum(namespace["blocks"] for namespace in stats["namespaces"])
