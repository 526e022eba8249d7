"""Two vLLM processes on one mount at the same time: one computes prompts, the other answers them.

With the parameters that vLLM's proxies pass on, the second one waits for the end of the store.
"""

from engine_runs import kvfs_on, tokens_of

BLOCK = 128
ANSWER = 24
PASSED_ON = {"do_remote_prefill": True}


def test_one_computes_the_prompt_and_the_other_answers(run_engine, make_daemon, model, tmp_path):
    daemon = make_daemon(dram="512MiB", nvme=None)
    text = tokens_of(model)
    prompts = {"one": text[:900], "two": text[1000:1800]}
    ready = {name: tmp_path / f"{name} is ready" for name in prompts}
    taken = {name: tmp_path / f"{name} is taken" for name in prompts}
    generate = {n: {"generate": tokens, "max_tokens": ANSWER} for n, tokens in prompts.items()}
    plain = run_engine("whole", None, generate).results()

    prefill_steps, decode_steps = {}, {}
    for name, tokens in prompts.items():
        prefill_steps[name] = {
            "generate": tokens,
            "max_tokens": 1,
            "transfer": {"do_remote_decode": True},
        }
        prefill_steps[f"after {name}"] = {"wait_for": str(taken[name])}
        decode_steps[f"before {name}"] = {"wait_for": str(ready[name])}
        decode_steps[name] = generate[name] | {"transfer": PASSED_ON}
    prefill = run_engine(
        "prefill", None, prefill_steps, transfer=kvfs_on(daemon.mount, "kv_producer")
    )
    decode = run_engine("decode", None, decode_steps, transfer=kvfs_on(daemon.mount, "kv_consumer"))
    for name in prompts:  # what a router does: it passes a request on when its prefill is done
        prefill.until_step(taken[name])
        decode.until_step(ready[name])
        ready[name].touch()
        taken[name].touch()
    prefilled, decoded = prefill.results(), decode.results()
    for name, tokens in prompts.items():
        whole = getattr(plain, name)["tokens"]
        assert getattr(prefilled, name)["tokens"] == whole[:1]
        assert PASSED_ON.items() <= getattr(prefilled, name)["transfer"].items()
        assert getattr(decoded, name)["tokens"] == whole
        assert getattr(decoded, name)["cached"] == len(tokens) // BLOCK * BLOCK
