import errno
import json
import os
import re

import pytest
from populate import run, store_prefix
from raw_client import Lease, expect_errno

SAMPLE = re.compile(r'^([a-zA-Z_:][\w:]*)(\{(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\.)*",?)*\})? (\S+)$')


def read_metrics(daemon) -> dict[str, float]:
    """Parses Prometheus' text format strictly; sample with labels -> value."""
    types: dict[str, str] = {}
    samples: dict[str, float] = {}
    for line in (daemon.mount / ".kvfs/metrics").read_text().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ", 3)
            assert name not in types, f"{name} twice"
            types[name] = kind
        elif not line.startswith("#") and line:
            match = SAMPLE.match(line)
            assert match, line
            base = re.sub(r"_(bucket|sum|count)$", "", match[1])
            assert match[1] in types or types.get(base) == "histogram", f"{match[1]} has no type"
            assert match[1] + (match[2] or "") not in samples, line
            samples[match[1] + (match[2] or "")] = float(match[3])
    return samples


@pytest.fixture
def busy(ns):
    prefix = store_prefix(ns, 10)
    with Lease(ns, prefix.key) as lease:
        lease.extents(missed=3)
    with open(prefix.path, "rb") as file:
        file.read()
    return ns


def test_metrics(daemon, busy):
    name = busy.path.rsplit("/", 1)[1]
    samples = read_metrics(daemon)

    def of(metric: str, **labels: str) -> float:
        inside = ",".join(f'{key}="{value}"' for key, value in labels.items())
        return samples[f"{metric}{{{inside}}}" if inside else metric]

    assert of("kvfs_blocks", namespace=name) == 10
    assert of("kvfs_prefixes", namespace=name) == 1
    assert of("kvfs_hit_blocks_total", namespace=name) == 10
    assert of("kvfs_missed_blocks_total", namespace=name) == 3
    assert of("kvfs_committed_blocks_total", namespace=name) == 10
    assert of("kvfs_moved_bytes_total", namespace=name, move="stored") == 10 * busy.block_bytes[0]
    assert of("kvfs_moved_bytes_total", namespace=name, move="loaded") >= 10 * busy.block_bytes[0]
    assert of("kvfs_namespace_tier_blocks", namespace=name, tier="dram") == 10
    assert of("kvfs_evicted_blocks_total", namespace=name, reason="removed") == 0
    assert of("kvfs_tier_capacity_bytes", tier="dram") == 256 << 20
    assert of("kvfs_tier_capacity_bytes", tier="nvme") == 512 << 20
    assert of("kvfs_fuse_passthrough") in (0, 1)
    assert of("kvfs_tier_queue_depth", tier="nvme") >= 0


def test_histograms_are_cumulative_and_agree(daemon, busy):
    samples = read_metrics(daemon)
    buckets = [
        v
        for k, v in samples.items()
        if k.startswith("kvfs_store_seconds_bucket") and 'operation="commit"' in k
    ]
    assert buckets == sorted(buckets)
    assert buckets[-1] >= 1
    assert buckets[-1] == samples['kvfs_store_seconds_count{operation="commit"}']
    assert any(
        k.startswith("kvfs_fuse_request_seconds_bucket") and 'op="lookup"' in k and 'le="+Inf"' in k
        for k in samples
    )


def test_stats_json(daemon, busy):
    stats = json.loads((daemon.mount / ".kvfs/stats.json").read_text())
    assert set(stats["tiers"]) == {"dram", "nvme"}
    (mine,) = [n for n in stats["namespaces"] if n["name"] == busy.path.rsplit("/", 1)[1]]
    assert mine["blocks"] == 10
    assert mine["hit_blocks"] == 10
    assert mine["missed_blocks"] == 3
    own = json.loads(run("cat", f"{busy.path}/.kvfs/stats.json"))
    assert own["blocks"] == 10
    assert stats["fuse"]["ops"]["ioctl"]["count"] > 0


def test_a_handle_is_a_snapshot(daemon, ns):
    with open(f"{ns.path}/.kvfs/stats.json") as file:
        store_prefix(ns, 2)
        assert json.load(file)["blocks"] == 0
    with open(f"{ns.path}/.kvfs/stats.json") as file:
        assert json.load(file)["blocks"] == 2


def test_virtual_files_are_read_only(daemon, ns):
    for path in (
        daemon.mount / ".kvfs/metrics",
        daemon.mount / ".kvfs/version",
        f"{ns.path}/.kvfs/geometry.json",
    ):
        with expect_errno(errno.EACCES):
            os.open(path, os.O_WRONLY)
