"""A hybrid model in vLLM with KvfsConnector."""

from engine_runs import tokens_of

BLOCK = 128


def test_a_model_with_sliding_windows(run_engine, make_daemon, hybrid_model, capsys):
    daemon = make_daemon(dram="512MiB", nvme=None)
    prompt = tokens_of(hybrid_model)[:1300]
    steps = {"answer": {"generate": prompt, "max_tokens": 24}}

    def run(name, path):
        return run_engine(f"hybrid-{name}", path, steps, hybrid_model).results().answer

    plain, stored, loaded = (
        run("plain", None),
        run("stored", daemon.mount),
        run("loaded", daemon.mount),
    )
    assert stored["tokens"] == loaded["tokens"] == plain["tokens"]
    assert (plain["cached"], stored["cached"]) == (0, 0)
    assert loaded["cached"] >= 0.95 * (len(prompt) // BLOCK * BLOCK)
    with capsys.disabled():
        print()
        for name, row in (
            ("without kvfs", plain),
            ("stored meanwhile", stored),
            ("loaded", loaded),
        ):
            print(f"  hybrid, 1300 tokens, {name}: first token after {1e3 * row['ttft']:.0f} ms")
