"""vLLM with KvfsConnector: the same tokens as without, and what is cached is loaded."""

import json
from types import SimpleNamespace

import pytest

BLOCK = 128  # vLLM's on a CPU
ANSWER = 24
DECODED = 160


def full(tokens) -> int:
    """Tokens of the full blocks."""
    return len(tokens) // BLOCK * BLOCK


def namespaces(daemon) -> list[dict]:
    return json.loads((daemon.mount / ".kvfs/stats.json").read_text())["namespaces"]


@pytest.fixture(scope="module")
def daemon(make_daemon):
    return make_daemon(dram="1GiB", nvme="2GiB")


@pytest.fixture(scope="module")
def prompts(text_tokens):
    """Two that share a beginning, and one to be answered at length."""
    first, other = text_tokens[:1500], text_tokens[1700:2200]
    return SimpleNamespace(
        first=first,
        second=first[:900] + other,
        talk=text_tokens[600:700],
        new=text_tokens[300:1000],
    )


@pytest.fixture(scope="module")
def plain(run_engine, prompts):
    """Without kvfs: what the tokens must be."""
    steps = [
        {"generate": prompts.first, "max_tokens": ANSWER},
        {"forget": None},
        {"generate": prompts.second, "max_tokens": ANSWER},
        {"generate": prompts.talk, "max_tokens": DECODED},
        {"generate": prompts.new, "max_tokens": ANSWER},
        {"forget": None},
        {"batch": [prompts.first, prompts.second, prompts.new], "max_tokens": ANSWER},
    ]
    first, _, second, talk, new, _, batch = run_engine("plain", None, steps).results()
    talk_more = prompts.talk + talk["tokens"][:-1]
    return SimpleNamespace(
        first=first, second=second, talk=talk, new=new, batch=batch, talk_more=talk_more
    )


@pytest.fixture(scope="module")
def stored(run_engine, daemon, prompts, plain):
    """The first process with kvfs; the daemon is restarted after it."""
    steps = [
        {"generate": prompts.first, "max_tokens": ANSWER},
        {"generate": prompts.second, "max_tokens": ANSWER},
        {"generate": prompts.talk, "max_tokens": DECODED},
    ]
    run = run_engine("stored", daemon.mount, steps)
    results = run.results()
    seen = namespaces(daemon)
    daemon.stop()
    daemon.start()
    return SimpleNamespace(results=results, namespaces=seen, log=run.log())


@pytest.fixture(scope="module")
def again(run_engine, daemon, prompts, plain, stored, tmp_path_factory):
    """The second process; while it runs, the daemon dies and comes back."""
    directory = tmp_path_factory.mktemp("steps")
    dead, back = directory / "dead", directory / "back"
    steps = [
        {"generate": prompts.first, "max_tokens": ANSWER},
        {"generate": prompts.second, "max_tokens": ANSWER},
        {"generate": plain.talk_more, "max_tokens": 1},
        {"generate": prompts.first, "max_tokens": 1, "cache_salt": "another tenant"},
        {"forget": None},
        {"batch": [prompts.first, prompts.second, prompts.new], "max_tokens": ANSWER},
        {"forget": None},
        {"abort": prompts.first, "steps": 1},
        {"wait_for": str(dead)},
        {"generate": prompts.first, "max_tokens": ANSWER},
        {"generate": prompts.second, "max_tokens": ANSWER},
        {"forget": None},
        {"wait_for": str(back)},
        {"generate": prompts.first, "max_tokens": ANSWER},
    ]
    run = run_engine("again", daemon.mount, steps)
    run.until_step(dead)
    seen = namespaces(daemon)
    daemon.kill()
    dead.touch()
    run.until_step(back)
    daemon.start()
    back.touch()
    names = [
        "first",
        "second",
        "talk",
        "salt",
        "_",
        "batch",
        "_",
        "abort",
        "_",
        "gone_first",
        "gone_second",
        "_",
        "_",
        "back",
    ]
    results = dict(zip(names, run.results(), strict=True))
    return SimpleNamespace(**results, namespaces=seen, log=run.log())


def test_storing_changes_no_token(plain, stored):
    for without, with_kvfs in zip((plain.first, plain.second, plain.talk), stored.results):
        assert with_kvfs["tokens"] == without["tokens"]


def test_the_namespace_has_a_name_a_person_recognizes(stored, model):
    (namespace,) = stored.namespaces
    assert namespace["name"] == f"{model.name.lower()}-float32"
    assert namespace["leases_open"] == namespace["reservations_open"] == 0


def test_a_second_process_loads_after_a_restart_of_the_daemon(plain, stored, again, prompts):
    assert again.first["tokens"] == plain.first["tokens"]
    assert again.second["tokens"] == plain.second["tokens"]
    assert again.first["cached"] >= 0.95 * full(prompts.first)
    assert again.second["cached"] >= 0.95 * full(prompts.second)


def test_what_was_decoded_is_stored_too(plain, again):
    assert again.talk["cached"] >= 0.95 * full(plain.talk_more)
    assert again.talk["tokens"] == plain.talk["tokens"][-1:]


def test_another_cache_salt_is_another_prompt(again):
    assert again.salt["cached"] == 0


def test_a_batch_hits_and_misses_together(plain, again, prompts):
    assert [r["tokens"] for r in again.batch] == [r["tokens"] for r in plain.batch]
    assert again.batch[0]["cached"] >= 0.95 * full(prompts.first)
    assert again.batch[1]["cached"] >= 0.95 * full(prompts.second)


def test_an_aborted_load_holds_nothing(again):
    assert again.abort == {"was": ["WAITING_FOR_REMOTE_KVS"], "left": 0}
    for namespace in again.namespaces:
        assert namespace["leases_open"] == namespace["reservations_open"] == 0


def test_without_the_daemon_requests_finish_and_it_is_found_again(plain, again, prompts):
    assert again.gone_first["tokens"] == plain.first["tokens"]
    assert again.gone_second["tokens"] == plain.second["tokens"]
    assert again.gone_first["cached"] == 0
    assert again.back["tokens"] == plain.first["tokens"]
    assert again.back["cached"] >= 0.95 * full(prompts.first)


def test_a_missing_mount_is_a_warning(run_engine, tmp_path, prompts, plain):
    run = run_engine("none", tmp_path, [{"generate": prompts.first, "max_tokens": ANSWER}])
    (result,) = run.results()
    assert result["tokens"] == plain.first["tokens"]
    assert "going on without cache" in run.log()


def test_time_to_the_first_token(plain, stored, again, capsys):
    """Shown, and only roughly asserted: the machine may be doing anything."""
    rows = [("without kvfs", plain.first), ("stored", stored.results[0]), ("hit", again.first)]
    with capsys.disabled():
        print()
        for name, row in rows:
            print(f"  1500 tokens, {name}: first token after {1e3 * row['ttft']:.0f} ms")
