"""vLLM's own connectors that keep KV in files, unmodified, on a plain directory of a mount."""

import pytest
from engine_runs import tiering_on, tokens_of
from support.plain_directories import plain_directory, set_quota, settled, statistics, until

BLOCK = 128  # vLLM's on a CPU
ANSWER = 24
MEMORY = 96 << 20  # 16 blocks


@pytest.fixture(scope="module")
def daemon(make_daemon):
    return make_daemon(dram="64MiB", nvme="1GiB", flags=["--plain-quota", "512MiB"])


@pytest.fixture(scope="module")
def prompt(model):
    return tokens_of(model)[:1500]


@pytest.fixture(scope="module")
def others(model):
    tokens = tokens_of(model)
    return [tokens[begin : begin + 300] for begin in range(100, 1300, 200)]


def generate(prompts) -> dict:
    return {
        f"other{number}": {"generate": prompt, "max_tokens": ANSWER}
        for number, prompt in enumerate(prompts)
    }


@pytest.fixture(scope="module")
def without(run_engine, prompt, others):
    """Without any connector: what the tokens must be."""
    steps = {"answer": {"generate": prompt, "max_tokens": ANSWER}} | generate(others)
    return run_engine("plain", None, steps).results()


def example(path) -> dict:
    return {
        "kv_connector": "ExampleConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {"shared_storage_path": str(path)},
    }


# It stores a prompt when the first part of it is computed: that must be all of it.
WHOLE = {"max_num_batched_tokens": 4096}


def test_example_connector(run_engine, daemon, prompt, others, without, capsys):
    """The second process has a quota smaller than what it writes, and asks again for its first
    prompt, which that evicted: this connector takes a prompt for stored while its directory is
    there, so whole directories are what leaves."""
    path = plain_directory(daemon, "example", "512MiB", unit="directory")
    answer = {"generate": prompt, "max_tokens": ANSWER}
    steps = {"answer": answer}
    options = {"transfer": example(path)} | WHOLE
    stored = run_engine("example-stored", None, steps, **options).results().answer
    settled(daemon)
    before = statistics(daemon, path.name)
    quota = before["bytes"] * 3 // 2
    set_quota(path, quota)
    last = {"generate": others[-1], "max_tokens": ANSWER}
    steps |= generate(others) | {"forgotten": {"forget": None}, "last": last, "again": answer}
    loaded = run_engine("example-loaded", None, steps, **options).results()
    assert stored["tokens"] == loaded.answer["tokens"] == without.answer["tokens"]
    assert (stored["cached"], loaded.answer["cached"]) == (0, len(prompt) // BLOCK * BLOCK)
    assert_same_answers(loaded, without, others)
    assert loaded.last["tokens"] == getattr(without, f"other{len(others) - 1}")["tokens"]
    assert loaded.last["cached"] == len(others[-1]) // BLOCK * BLOCK
    assert loaded.again["tokens"] == without.answer["tokens"]
    assert loaded.again["cached"] == 0  # it was evicted, and is computed again
    assert_within(daemon, path, quota, hits=before["hits"] + 30)  # a file a layer
    show(capsys, "ExampleConnector", stored, loaded.answer)


def assert_same_answers(results, without, others):
    for number in range(len(others)):
        name = f"other{number}"
        assert getattr(results, name)["tokens"] == getattr(without, name)["tokens"]


def assert_within(daemon, path, quota, hits):
    settled(daemon)
    until(lambda: statistics(daemon, path.name)["bytes"] <= quota)
    stats = statistics(daemon, path.name)
    assert stats["hits"] >= hits
    assert stats["evictions"]["files"] >= 4
    assert stats["evictions"]["corrupt"] == stats["evictions"]["incomplete"] == 0


def test_fs_tier(run_engine, daemon, prompt, others, without, capsys):
    """The second process has a quota smaller than what it writes, and comes back to its first
    prompt when the oldest files of that are gone."""
    path = plain_directory(daemon, "tiering", "512MiB")
    answer = {"generate": prompt, "max_tokens": ANSWER}
    steps = {"answer": answer}
    stored = (
        run_engine("fs-stored", None, steps, transfer=tiering_on(path, MEMORY)).results().answer
    )
    settled(daemon)
    blocks = len(prompt) // BLOCK
    before = statistics(daemon, path.name)
    assert before["files"] >= blocks
    quota = before["bytes"] * 3 // 2
    set_quota(path, quota)
    steps |= generate(others) | {"forgotten": {"forget": None}, "again": answer}
    loaded = run_engine("fs-loaded", None, steps, transfer=tiering_on(path, MEMORY)).results()
    assert stored["tokens"] == loaded.answer["tokens"] == without.answer["tokens"]
    assert (stored["cached"], loaded.answer["cached"]) == (0, blocks * BLOCK)
    assert_same_answers(loaded, without, others)
    assert loaded.again["tokens"] == without.answer["tokens"]
    assert_within(daemon, path, quota, hits=before["hits"] + blocks)
    show(capsys, "the fs tier", stored, loaded.answer)


def show(capsys, name, stored, loaded):
    with capsys.disabled():
        print(f"\n  {name}: {loaded['cached']} tokens found, first token", end=" ")
        print(f"computed in {1e3 * stored['ttft']:.0f} ms, loaded in {1e3 * loaded['ttft']:.0f} ms")
