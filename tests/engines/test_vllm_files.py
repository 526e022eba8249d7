"""vLLM's own connectors that keep KV in files, unmodified, on a plain directory of a mount."""

import os

import pytest
from engine_runs import tokens_of
from support.plain_directories import settled, statistics

BLOCK = 128  # vLLM's on a CPU
ANSWER = 24
MIB = 1 << 20


@pytest.fixture(scope="module")
def daemon(make_daemon):
    return make_daemon(dram="64MiB", nvme="1GiB", flags=["--plain-quota", "512MiB"])


def directory(daemon, name, quota="512MiB"):
    path = daemon.mount / name
    path.mkdir()
    os.setxattr(path, "user.kvfs.quota", quota.encode())
    return path


@pytest.fixture(scope="module")
def prompt(model):
    return tokens_of(model)[:1500]


@pytest.fixture(scope="module")
def plain(run_engine, prompt):
    """Without any connector: what the tokens must be."""
    steps = {"answer": {"generate": prompt, "max_tokens": ANSWER}}
    return run_engine("plain", None, steps).results().answer


def example(path) -> dict:
    return {
        "kv_connector": "ExampleConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {"shared_storage_path": str(path)},
    }


# It stores a prompt when the first part of it is computed: that must be all of it.
WHOLE = {"max_num_batched_tokens": 4096}


def test_example_connector(run_engine, daemon, prompt, plain, capsys):
    path = directory(daemon, "example")
    steps = {"answer": {"generate": prompt, "max_tokens": ANSWER}}
    stored, loaded = (
        run_engine(name, None, steps, transfer=example(path), **WHOLE).results().answer
        for name in ("example-stored", "example-loaded")
    )
    assert stored["tokens"] == loaded["tokens"] == plain["tokens"]
    assert (stored["cached"], loaded["cached"]) == (0, len(prompt) // BLOCK * BLOCK)
    settled(daemon)
    assert statistics(daemon, path.name)["hits"] >= 30  # a file a layer
    show(capsys, "ExampleConnector", stored, loaded)


def show(capsys, name, stored, loaded):
    with capsys.disabled():
        print(f"\n  {name}: {loaded['cached']} tokens found, first token", end=" ")
        print(f"computed in {1e3 * stored['ttft']:.0f} ms, loaded in {1e3 * loaded['ttft']:.0f} ms")
