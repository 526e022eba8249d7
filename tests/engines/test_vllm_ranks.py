"""Tensor-parallel engines with KvfsConnector: each rank stores and loads its own heads."""

import json

from engine_runs import tokens_of

BLOCK = 128
ANSWER = 24
RANKS = 3  # SmolLM2-135M has 3 KV heads, 9 of attention


def test_what_ranks_stored_one_process_loads_and_the_reverse(run_engine, make_daemon, model):
    daemon = make_daemon(dram="512MiB", nvme=None)
    text = tokens_of(model)
    one, other = text[:700], text[900:1500]

    def run(name, path, prompts, **options):
        steps = {key: {"generate": tokens, "max_tokens": ANSWER} for key, tokens in prompts.items()}
        results = run_engine(f"ranks-{name}", path, steps, **options).results()
        return results.__dict__

    ranks = {"tensor_parallel_size": RANKS}
    plain = run("plain", None, {"one": one, "other": other})
    by_ranks = run("several", daemon.mount, {"one": one}, **ranks)
    assert by_ranks["one"]["tokens"] == plain["one"]["tokens"]
    assert by_ranks["one"]["cached"] == 0

    by_one = run("single", daemon.mount, {"one": one, "other": other})
    assert by_one["one"]["cached"] == len(one) // BLOCK * BLOCK
    assert by_one["other"]["cached"] == 0
    assert by_one["one"]["tokens"] == plain["one"]["tokens"]

    again = run("several-again", daemon.mount, {"one": one, "other": other}, **ranks)
    for name, tokens in (("one", one), ("other", other)):
        assert again[name]["cached"] == len(tokens) // BLOCK * BLOCK
        assert again[name]["tokens"] == plain[name]["tokens"]
    stats = json.loads((daemon.mount / ".kvfs/stats.json").read_text())
    assert len(stats["namespaces"]) == 1
