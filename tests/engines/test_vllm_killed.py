"""The daemon dies while vLLM loads from it, and comes back."""

import json
import time

import pytest
from engine_runs import tokens_of
from support.disk import daemon_on_disk
from support.plain_directories import until

BLOCK = 128
ANSWER = 24


@pytest.fixture
def own(bin_dir):
    """(daemon, disk): one on a disk that can be stopped, so that loads from it do not end."""
    with daemon_on_disk(bin_dir, dram="256MiB", nvme="512MiB") as both:
        yield both


def test_a_load_that_the_daemon_does_not_survive(run_engine, own, model, tmp_path):
    daemon, disk = own
    text = tokens_of(model)
    prompt, short = text[:1500], text[600:700]
    stored, back = tmp_path / "stored", tmp_path / "back"
    answer = {"generate": prompt, "max_tokens": ANSWER}
    steps = {
        "computed": answer,
        "short": {"generate": short, "max_tokens": ANSWER},
        "forgotten": {"forget": None},
        "at the load": {"wait_for": str(stored)},
        "killed": {"batch": [prompt, short], "max_tokens": ANSWER},
        "forgotten again": {"forget": None},
        "after the start": {"wait_for": str(back)},
        "again": answer,
        "metrics": {"metrics": None},
    }
    run = run_engine("killed", daemon.mount, steps)
    run.until_step(stored)
    (namespace,) = stats(daemon)["namespaces"]
    assert daemon.control({"op": "flush", "timeout_s": 60})["ok"]
    evict = {"op": "evict", "tier": "dram", "bytes": 1 << 30}
    assert daemon.control(evict, namespace["name"])["ok"]
    assert in_dram(daemon) == 0
    disk.stop()
    stored.touch()
    until(lambda: in_dram(daemon) > 0, 60)  # room for what is being loaded
    (namespace,) = stats(daemon)["namespaces"]
    assert namespace["leases_open"] == 2  # the scheduler's, and the load's own
    daemon.process.kill()
    disk.go_on()  # or the kernel waits for what the daemon had under way
    daemon.kill()
    daemon.start()
    run.until_step(back)
    time.sleep(0.2)  # kvfs may have looked for it in vain, and does again 100 ms later
    back.touch()
    results = run.results()
    expected = [results.computed["tokens"], results.short["tokens"]]
    assert [one["tokens"] for one in results.killed] == expected
    assert [one["cached"] for one in results.killed] == [0, 0]
    assert results.metrics["failed_loads"] == 1
    assert results.again["tokens"] == expected[0]
    assert results.again["cached"] == len(prompt) // BLOCK * BLOCK


def stats(daemon) -> dict:
    return json.loads((daemon.mount / ".kvfs/stats.json").read_text())


def in_dram(daemon) -> int:
    """Bytes of slots in use."""
    return stats(daemon)["tiers"]["dram"]["used"]
