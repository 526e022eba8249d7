"""Models of one shape, and LoRA adapters of one model, in vLLM on one mount: each has its own KV."""

import json
import shutil

import made_models
import pytest
from engine_runs import tokens_of

BLOCK = 128
ANSWER = 24
LORA = {"enable_lora": True, "max_lora_rank": made_models.RANK}


@pytest.fixture
def daemon(make_daemon):
    return make_daemon(dram="512MiB", nvme=None)


@pytest.fixture(scope="module")
def answer(model):
    """answer(adapter) -> the step that answers one prompt, which the tests have in common."""
    prompt = tokens_of(model)[:700]

    def step(adapter=None) -> dict:
        return {"generate": prompt, "max_tokens": ANSWER, "adapter": adapter and str(adapter)}

    return step


@pytest.fixture
def tuned(model, tmp_path):
    """The same model, but for the weights of its first layer, in a directory of the same name."""
    made = made_models.fine_tuned(model, tmp_path)
    yield made
    shutil.rmtree(made)  # half a gigabyte


def assert_found(results, blocks: int):
    assert {result["cached"] for result in results.__dict__.values()} == {blocks * BLOCK}


def tokens(results) -> dict:
    return {name: result["tokens"] for name, result in results.__dict__.items()}


def test_a_model_of_the_same_shape_finds_nothing(run_engine, daemon, model, tuned, answer):
    steps = {"answer": answer()}

    def run(name, of, path=daemon.mount):
        return run_engine(name, path, steps, of).results()

    plain, plain_tuned = run("plain", model, None), run("tuned-plain", tuned, None)
    assert tokens(plain) != tokens(plain_tuned)
    assert tokens(run("stored", model)) == tokens(plain)
    for name, blocks in (("tuned-stored", 0), ("tuned-again", 5)):
        found = run(name, tuned)
        assert tokens(found) == tokens(plain_tuned)
        assert_found(found, blocks)
    again = run("again", model)
    assert tokens(again) == tokens(plain)
    assert_found(again, 5)
    stats = json.loads((daemon.mount / ".kvfs/stats.json").read_text())
    names = sorted(one["name"] for one in stats["namespaces"])
    usual = f"{model.name.lower()}-float32"
    assert len(names) == 2
    assert names[0] == usual
    assert names[1].startswith(f"{usual}-")


def test_adapters_find_only_their_own(run_engine, daemon, model, answer, tmp_path):
    """Before the last process one adapter's files are replaced, under the name and path it had."""
    paths = {
        name: made_models.adapter(model, tmp_path / name, seed)
        for seed, name in enumerate(("one", "two", "newer two"))
    }
    without = run_engine(
        "adapters-plain",
        None,
        {"none": answer()} | {name: answer(path) for name, path in paths.items()},
        **LORA,
    ).results()
    expected = tokens(without)
    assert len({tuple(answered) for answered in expected.values()}) == 4
    newer = expected.pop("newer two")

    steps = {"none": answer(), "one": answer(paths["one"]), "two": answer(paths["two"])}
    stored = run_engine("adapters-stored", daemon.mount, steps, **LORA).results()
    assert tokens(stored) == expected
    assert_found(stored, 0)

    again = run_engine("adapters-again", daemon.mount, steps, **LORA).results()
    assert tokens(again) == expected
    assert_found(again, 5)

    shutil.copytree(paths["newer two"], paths["two"], dirs_exist_ok=True)
    replaced = run_engine("adapters-replaced", daemon.mount, steps, **LORA).results()
    assert tokens(replaced) == expected | {"two": newer}
    assert (replaced.none["cached"], replaced.one["cached"]) == (5 * BLOCK, 5 * BLOCK)
    assert replaced.two["cached"] == 0
