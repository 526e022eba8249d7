"""An engine with too few pages for its requests: vLLM preempts them, with KvfsConnector, too."""

import json
import time

from engine_runs import tokens_of

BLOCK = 128
# Two prompts fit, their answers do not.
PAGES = 14
ANSWER = 150


def test_preempted_requests_answer_the_same_and_hold_nothing(run_engine, make_daemon, model):
    daemon = make_daemon(dram="512MiB", nvme=None)
    text = tokens_of(model)
    prompts = [text[begin : begin + 700] for begin in (0, 800, 1600)]
    steps = {
        "batch": {"batch": prompts, "max_tokens": ANSWER},
        "metrics": {"metrics": None},
        "forgotten": {"forget": None},
        "again": {"batch": prompts, "max_tokens": ANSWER},
    }
    small = {"num_gpu_blocks_override": PAGES, "max_model_len": 1024}
    plain = run_engine("preempted-plain", None, steps, **small).results()
    cached = run_engine("preempted", daemon.mount, steps, **small).results()
    assert plain.metrics["num_preemptions"] > 0
    assert cached.metrics["num_preemptions"] > 0
    assert not cached.metrics.get("failed_loads")
    for results in (cached.batch, cached.again):
        assert [r["tokens"] for r in results] == [r["tokens"] for r in plain.batch]
    # A store whose pages are wanted before it has begun is dropped: not all need be there.
    assert all(r["cached"] >= BLOCK for r in cached.again)
    # Whether one comes back by a load depends on which pages vLLM has reused meanwhile.
    assert held(daemon) == 0


def held(daemon) -> int:
    """Leases and reservations, when the kernel has told the daemon of what was closed."""
    deadline = time.monotonic() + 30
    while True:
        seen = json.loads((daemon.mount / ".kvfs/stats.json").read_text())["namespaces"]
        count = sum(one["leases_open"] + one["reservations_open"] for one in seen)
        if count == 0 or time.monotonic() > deadline:
            return count
        time.sleep(0.05)
