"""Conversations in vLLM on a mount that is too small for them: what is cached comes and goes."""

import json
import os
import time

from engine_runs import tokens_of

ROUNDS = int(os.environ.get("KVFS_ENGINE_ROUNDS", "4"))


def test_no_answer_differs_and_nothing_is_left_open(run_engine, make_daemon, model):
    # 16 slabs of 8 MiB, of which each holds one block of 128 tokens (5.6 MiB).
    daemon = make_daemon(dram="128MiB", nvme=None)
    steps = {
        "talks": {"talks": tokens_of(model), "rounds": ROUNDS, "clients": 3, "seed": 1},
        "metrics": {"metrics": None},
    }
    plain = run_engine("talks-plain", None, steps).results()
    run = run_engine("talks", daemon.mount, steps)
    while not run.has_said_something(0.2):
        for tier in stats(daemon)["tiers"].values():
            assert tier["used"] <= tier["capacity"]
    cached = run.results()
    assert cached.talks["said"] == plain.talks["said"]
    assert cached.metrics["loads"] > 0
    deadline = time.monotonic() + 60  # the kernel tells the daemon of a close afterwards
    while (open_now := held(daemon)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert open_now == 0


def stats(daemon) -> dict:
    return json.loads((daemon.mount / ".kvfs/stats.json").read_text())


def held(daemon) -> int:
    return sum(one["leases_open"] + one["reservations_open"] for one in stats(daemon)["namespaces"])
