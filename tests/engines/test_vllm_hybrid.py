"""A hybrid model in vLLM with KvfsConnector: its groups of layers are kvfs's."""

import json

import pytest
from engine_runs import tokens_of

BLOCK = 128
WINDOW = 512
ANSWER = 24


@pytest.fixture(scope="module")
def daemon(make_daemon):
    return make_daemon(dram="512MiB", nvme=None)


@pytest.fixture(scope="module")
def prompts(hybrid_model):
    """Two that share more than a window, and go on for longer than one."""
    text = tokens_of(hybrid_model)
    return {"first": text[:1300], "longer": text[:2100], "other": text[:700] + text[2200:2600]}


@pytest.fixture(scope="module")
def plain(run_engine, hybrid_model, prompts):
    steps = {name: {"generate": prompt, "max_tokens": ANSWER} for name, prompt in prompts.items()}
    return run_engine("hybrid-plain", None, steps, hybrid_model).results()


@pytest.fixture(scope="module")
def stored(run_engine, daemon, hybrid_model, prompts, plain):
    steps = {"first": {"generate": prompts["first"], "max_tokens": ANSWER}}
    return run_engine("hybrid-stored", daemon.mount, steps, hybrid_model).results()


@pytest.fixture(scope="module")
def again(run_engine, daemon, hybrid_model, prompts, stored, tmp_path_factory):
    """Another process; at its end the daemon dies."""
    dead = tmp_path_factory.mktemp("steps") / "dead"
    steps = {
        "first": {"generate": prompts["first"], "max_tokens": ANSWER},
        "longer": {"generate": prompts["longer"], "max_tokens": ANSWER},  # goes on from a load
        "other": {"generate": prompts["other"], "max_tokens": ANSWER},
        "forgotten": {"forget": None},
        "longer again": {"generate": prompts["longer"], "max_tokens": ANSWER},
        "at the kill": {"wait_for": str(dead)},
        "forgotten again": {"forget": None},
        "gone": {"generate": prompts["longer"], "max_tokens": ANSWER},
    }
    run = run_engine("hybrid-again", daemon.mount, steps, hybrid_model)
    run.until_step(dead)
    daemon.kill()
    dead.touch()
    return run.results()


def full(tokens) -> int:
    return len(tokens) // BLOCK * BLOCK


def test_vllm_keeps_its_groups_and_so_does_the_namespace(stored, daemon):
    (geometry,) = daemon.mount.glob("*/.kvfs/geometry.json")
    groups = json.loads(geometry.read_text())["groups"]
    assert [group["window"] for group in groups].count(WINDOW) == len(groups) - 1
    assert len(groups) > 1


def test_a_second_process_loads(plain, stored, again, prompts):
    assert stored.first["tokens"] == again.first["tokens"] == plain.first["tokens"]
    assert (plain.first["cached"], stored.first["cached"]) == (0, 0)
    assert again.first["cached"] == full(prompts["first"])


def test_what_is_computed_after_a_load_is_stored_and_loaded(plain, again, prompts):
    assert again.longer["tokens"] == plain.longer["tokens"]
    assert again.longer["cached"] >= full(prompts["first"])
    longer = getattr(again, "longer again")
    assert longer["tokens"] == plain.longer["tokens"]
    assert longer["cached"] == full(prompts["longer"])


def test_a_prompt_that_leaves_another_within_it(plain, again):
    assert again.other["tokens"] == plain.other["tokens"]


def test_without_the_daemon_it_computes(plain, again):
    assert again.gone["tokens"] == plain.longer["tokens"]
    assert again.gone["cached"] == 0


def test_time_to_the_first_token(plain, stored, again, capsys):
    """Shown, not asserted: the machine may be doing anything."""
    rows = {"without kvfs": plain, "stored meanwhile": stored, "loaded": again}
    with capsys.disabled():
        print()
        for name, results in rows.items():
            milliseconds = 1e3 * results.first["ttft"]
            print(f"  hybrid, 1300 tokens, {name}: first token after {milliseconds:.0f} ms")
