"""Conversations in vLLM on a mount that is too small for them: what is cached comes and goes. Beside
it an engine without kvfs has the same ones."""

import json
import os

from engine_runs import tokens_of
from support.plain_directories import until

SECONDS = 60 * float(os.environ.get("KVFS_ENGINE_MINUTES", "2"))
# Of the machine for each of two engines.
HALF = {
    "OMP_NUM_THREADS": str(max(1, os.cpu_count() // 2)),
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}


def test_no_answer_differs_and_nothing_is_left_open(
    run_engine, make_daemon, model, tmp_path, capsys
):
    # 16 slabs of 8 MiB, of which each holds one block of 128 tokens (5.6 MiB), and 22 blocks below.
    daemon = make_daemon(dram="128MiB", nvme="128MiB")
    talks = {"talks": tokens_of(model), "clients": 3, "seed": 1}
    steps = {
        "talks": talks | {"seconds": SECONDS},
        "forgotten": {"forget": None},
        "metrics": {"metrics": None},
    }
    run = run_engine("talks", daemon.mount, steps, environment=HALF)
    follow = tmp_path / "rounds"
    steps = {"talks": talks | {"follow": str(follow)}}
    plain = run_engine("talks-plain", None, steps, environment=HALF)
    while not run.has_said_something(0.2):
        for tier in stats(daemon)["tiers"].values():
            assert max(tier["used"], tier["reserved"]) <= tier["capacity"]
    results = run.results()
    cached, metrics = results.talks, results.metrics
    rounds = len(cached["said"])
    (tmp_path / "being written").write_text(str(rounds))
    (tmp_path / "being written").rename(follow)
    plain = plain.results().talks
    with capsys.disabled():
        print(
            f"\n  {rounds} rounds in {cached['seconds']:.0f} s: {cached['prompted']} tokens of prompts,"
            f" {cached['cached']} of them cached; {metrics['loads']:.0f} loads, "
            f"{metrics.get('failed_loads', 0):.0f} that failed; taken back: {cached['aborted']}"
        )
    assert differing(cached["said"], plain["said"][:rounds]) == []
    assert metrics["loads"] > 0
    assert cached["left"] == 0
    assert results.forgotten
    assert daemon.control({"op": "flush", "timeout_s": 60})["ok"]

    def nothing_is_left_open():  # the kernel tells the daemon of a close afterwards
        return is_all_accounted_for(stats(daemon))

    until(nothing_is_left_open, 60)
    (namespace,) = stats(daemon)["namespaces"]
    assert namespace["evictions"]["demoted"] > 0
    assert namespace["evictions"]["corrupt"] == namespace["evictions"]["io_error"] == 0


def differing(said, expected) -> list[str]:
    """By round and client; what one says differently, its later rounds build on."""
    return [
        f"round {number}, client {client}: {answer}, not {right}"
        for number, answers in enumerate(zip(said, expected, strict=True))
        for client, (answer, right) in enumerate(zip(*answers, strict=True))
        if answer != right
    ]


def stats(daemon) -> dict:
    return json.loads((daemon.mount / ".kvfs/stats.json").read_text())


def is_all_accounted_for(seen) -> bool:
    """No lease, no reservation, and no slot but those of blocks that can be found."""
    spaces = seen["namespaces"]
    held = sum(one["leases_open"] + one["reservations_open"] for one in spaces)
    return held == seen["quarantined_bytes"] == 0 and all(
        tier["used"] == sum(one["tiers"][name]["bytes"] for one in spaces)
        for name, tier in seen["tiers"].items()
    )
