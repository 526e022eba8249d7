"""vLLM with KvfsConnector: the same tokens as without, and what is cached is loaded."""

import json
import time
from types import SimpleNamespace

import pytest
from engine_runs import tokens_of

BLOCK = 128  # vLLM's on a CPU
ANSWER = 24
DECODED = 160


def full(tokens) -> int:
    """Tokens of the full blocks."""
    return len(tokens) // BLOCK * BLOCK


def namespaces(daemon) -> list[dict]:
    """The daemon's view, when what was closed has arrived there: the kernel tells it afterwards."""
    deadline = time.monotonic() + 30
    while True:
        seen = json.loads((daemon.mount / ".kvfs/stats.json").read_text())["namespaces"]
        held = sum(one["leases_open"] + one["reservations_open"] for one in seen)
        if held == 0 or time.monotonic() > deadline:
            return seen
        time.sleep(0.05)


@pytest.fixture(scope="module")
def daemon(make_daemon):
    return make_daemon(dram="1GiB", nvme="2GiB")


@pytest.fixture(scope="module")
def prompts(model):
    """Two that share a beginning, and one to be answered at length."""
    text_tokens = tokens_of(model)
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
    steps = {
        "first": {"generate": prompts.first, "max_tokens": ANSWER},
        "forgotten": {"forget": None},
        "second": {"generate": prompts.second, "max_tokens": ANSWER},
        "talk": {"generate": prompts.talk, "max_tokens": DECODED},
        "forgotten again": {"forget": None},
        "batch": {"batch": [prompts.first, prompts.second, prompts.new], "max_tokens": ANSWER},
    }
    results = run_engine("plain", None, steps).results()
    results.talk_more = prompts.talk + results.talk["tokens"][:-1]
    return results


@pytest.fixture(scope="module")
def stored(run_engine, daemon, prompts, plain):
    """The first process with kvfs; the daemon is restarted after it."""
    steps = {
        "first": {"generate": prompts.first, "max_tokens": ANSWER},
        "second": {"generate": prompts.second, "max_tokens": ANSWER},
        "talk": {"generate": prompts.talk, "max_tokens": DECODED},
    }
    results = run_engine("stored", daemon.mount, steps).results()
    results.namespaces = namespaces(daemon)
    daemon.stop()
    daemon.start()
    return results


@pytest.fixture(scope="module")
def again(run_engine, daemon, prompts, plain, stored, tmp_path_factory):
    """The second process; while it runs, the daemon dies and comes back."""
    directory = tmp_path_factory.mktemp("steps")
    dead, back = directory / "dead", directory / "back"
    steps = {
        "first": {"generate": prompts.first, "max_tokens": ANSWER},
        "own": {"generate": prompts.first, "max_tokens": 1},
        "second": {"generate": prompts.second, "max_tokens": ANSWER},
        "talk": {"generate": plain.talk_more, "max_tokens": 1},
        "salt": {"generate": prompts.first, "max_tokens": 1, "cache_salt": "another tenant"},
        "before the batch": {"forget": None},
        "batch": {"batch": [prompts.first, prompts.second, prompts.new], "max_tokens": ANSWER},
        "before the abort": {"forget": None},
        "abort": {"abort": prompts.first, "steps": 1},
        "at the kill": {"wait_for": str(dead)},
        "gone_first": {"generate": prompts.first, "max_tokens": ANSWER},
        "gone_second": {"generate": prompts.second, "max_tokens": ANSWER},
        "before the daemon is back": {"forget": None},
        "at the start": {"wait_for": str(back)},
        "back": {"generate": prompts.first, "max_tokens": ANSWER},
        "metrics": {"metrics": None},
        "the weights change": {"forget": True},
        "changed": {"generate": prompts.first, "max_tokens": ANSWER},
    }
    run = run_engine("again", daemon.mount, steps)
    run.until_step(dead)
    seen = namespaces(daemon)
    daemon.kill()
    dead.touch()
    run.until_step(back)
    daemon.start()
    time.sleep(0.2)  # kvfs looked for it in vain, and does again 100 ms later
    back.touch()
    results = run.results()
    results.namespaces = seen
    return results


def test_storing_changes_no_token(plain, stored):
    for name in ("first", "second", "talk"):
        assert getattr(stored, name)["tokens"] == getattr(plain, name)["tokens"]


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
    assert again.abort == {"was": "WAITING_FOR_REMOTE_KVS", "left": 0, "beside": []}
    for namespace in again.namespaces:
        assert namespace["leases_open"] == namespace["reservations_open"] == 0


def test_without_the_daemon_requests_finish_and_it_is_found_again(plain, again, prompts):
    assert again.gone_first["tokens"] == plain.first["tokens"]
    assert again.gone_second["tokens"] == plain.second["tokens"]
    assert again.gone_first["cached"] == 0
    assert again.back["tokens"] == plain.first["tokens"]
    assert again.back["cached"] >= 0.95 * full(prompts.first)


def test_when_the_connector_is_reset_nothing_old_is_found(plain, again):
    assert again.changed["cached"] == 0
    assert again.changed["tokens"] == plain.first["tokens"]


def test_metrics_of_its_own(again):
    """vLLM reports what was loaded, stored and lost with its other Prometheus metrics."""
    metrics = again.metrics
    assert metrics["loads"] >= 4  # first, second, talk, back
    loaded = metrics["loaded_tokens dram"] + metrics["loaded_tokens lower"]
    assert loaded >= again.first["cached"] + again.back["cached"]
    assert metrics["stored_tokens"] >= BLOCK  # under another salt, if nothing else


def test_a_missing_mount_is_a_warning(run_engine, tmp_path, prompts, plain):
    steps = {"first": {"generate": prompts.first, "max_tokens": ANSWER}}
    run = run_engine("none", tmp_path, steps)
    assert run.results().first["tokens"] == plain.first["tokens"]
    assert "going on without cache" in run.log()


def test_time_to_the_first_token(plain, stored, again, capsys):
    """Shown, not asserted: the machine may be doing anything."""
    rows = [
        ("without kvfs", plain.first),
        ("stored meanwhile", stored.first),
        ("loaded", again.first),
        ("in vLLM's own cache", again.own),
    ]
    with capsys.disabled():
        print()
        for name, row in rows:
            seconds, cached = row["ttft"], row["cached"]
            print(
                f"  1500 tokens, {cached:4} cached, {name}: first token after {1e3 * seconds:.0f} ms"
            )
