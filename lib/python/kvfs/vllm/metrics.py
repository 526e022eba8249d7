"""Scheduler's counts as vLLM's connector statistics: in its log and its Prometheus metrics."""

from __future__ import annotations

from vllm.distributed.kv_transfer.kv_connector.v1.metrics import (
    KVConnectorPromMetrics,
    KVConnectorStats,
)

# A count's metric, tier (None: the metric has no such label), and what it says.
_METRICS = {
    "loads": ("vllm:kvfs_loads", None, "Prefixes loaded from kvfs."),
    "tokens_dram": ("vllm:kvfs_loaded_tokens", "dram", "Tokens loaded from kvfs, by tier."),
    "tokens_lower": ("vllm:kvfs_loaded_tokens", "lower", "Tokens loaded from kvfs, by tier."),
    "stored": ("vllm:kvfs_stored_tokens", None, "Tokens published in kvfs by this engine."),
    "failed_loads": ("vllm:kvfs_failed_loads", None, "Loads that failed, and were computed."),
    "lost_stores": ("vllm:kvfs_lost_stores", None, "Stores that were given up."),
}


class Stats(KVConnectorStats):
    """`data`: what Counts.take() gives."""

    def reset(self):
        self.data = {}

    def aggregate(self, other: Stats) -> Stats:
        for name, count in other.data.items():
            self.data[name] = self.data.get(name, 0) + count
        return self

    def reduce(self) -> dict[str, int]:
        return {f"kvfs {name.replace('_', ' ')}": count for name, count in self.data.items()}

    def is_empty(self) -> bool:
        return not self.data


class PromMetrics(KVConnectorPromMetrics):
    """Counters, one child for each engine."""

    def __init__(self, vllm_config, metric_types, labelnames, per_engine_labelvalues):
        super().__init__(vllm_config, metric_types, labelnames, per_engine_labelvalues)
        self._counters = {}
        made = {}
        for name, (metric, tier, text) in _METRICS.items():
            labels = [*labelnames, *(["tier"] if tier else [])]
            if metric not in made:
                made[metric] = self._counter_cls(name=metric, documentation=text, labelnames=labels)
            for engine, values in per_engine_labelvalues.items():
                values = [*values, *([tier] if tier else [])]
                self._counters[engine, name] = made[metric].labels(*values)

    def observe(self, transfer_stats_data, engine_idx=0):
        for name, count in transfer_stats_data.items():
            self._counters[engine_idx, name].inc(count)
