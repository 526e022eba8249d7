"""vLLM keeps its KV cache in kvfs: point it at a mount, nothing else to set up.

    vllm serve MODEL --kv-transfer-config '{"kv_connector": "KvfsConnector", "kv_role": "kv_both",
        "kv_connector_module_path": "kvfs.vllm", "kv_connector_extra_config": {"path": "/kv"}}'

kv_connector_extra_config: `path`, the mount (needed); `namespace`, a name instead of one made from
the model's; `encoding`, packed, fp8 or int8 instead of raw; `required`, true to refuse to start
without the mount (else: a warning, no cache, and attached once it is there); `break_even`, false to
load also what would be computed faster; `store_decode`, false to store prompts only; `dram_gib`, how
much of the daemon's DRAM is mapped and pinned behind the start (else: half of what is there).
"""

__all__ = ["KvfsConnector"]


def __getattr__(name):
    # vLLM is imported when it asks for the connector; the parts that need none are testable without.
    if name == "KvfsConnector":
        from .connector import KvfsConnector

        return KvfsConnector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
