"""What differs between vLLM's versions and platforms, in one place. Written against 0.26 to 0.33."""

from __future__ import annotations

import torch
from vllm.distributed.kv_transfer.kv_connector.v1 import base
from vllm.platforms import current_platform
from vllm.v1.kv_cache_interface import AttentionSpec, FullAttentionSpec, MLAAttentionSpec

import kvfs

# Since vLLM tells a connector's scheduler what its workers have done; without it stores are not
# ended before their pages are reused, so the connector needs it.
WorkerMetadata = base.KVConnectorWorkerMetadata

try:
    from vllm.v1.metrics.cache_hit_source import CacheHitSource
except ImportError:  # older versions count hits without their source
    CacheHitSource = None


def kv_factor(spec) -> int | None:
    """2: K and V; 1: one latent for both (MLA); None: something else."""
    if not isinstance(spec, AttentionSpec) or not isinstance(spec, FullAttentionSpec):
        return None
    padded = getattr(spec, "page_size_padded", None)
    packed = getattr(spec, "num_head_slots", None) or getattr(spec, "state_content_bytes", None)
    if padded is not None or packed or getattr(spec, "tokens_per_state", 1) != 1:
        return None
    if isinstance(spec, MLAAttentionSpec):
        return 1 if getattr(spec, "compress_ratio", 1) == 1 else None
    return 2 if getattr(spec, "head_size_v", spec.head_size) == spec.head_size else None


def layout(vllm_config, spec) -> str:
    """Canonical on a GPU. On a CPU, attention kernels order a page's bytes as they like."""
    if not current_platform.is_cpu():
        return "canonical"
    from vllm.v1.attention.backends.cpu_attn import _get_attn_isa

    isa = _get_attn_isa(
        vllm_config.model_config.dtype,
        spec.block_size,
        spec.head_size,
        vllm_config.cache_config.cache_dtype,
    )
    width = "avx512" if torch.cpu._is_avx512_supported() else "avx2"
    return f"opaque:vllm-{isa}-{current_platform.get_cpu_architecture().name.lower()}-{width}"


def pages(caches: list[torch.Tensor], spec, planes: int, num_pages: int) -> kvfs.Pages:
    """The engine's layers for libkvfs. ValueError for a shape that is none of those known."""
    shape = tuple(caches[0].shape)
    heads, tokens, dim = spec.num_kv_heads, spec.block_size, spec.head_size
    if planes == 1 and shape == (num_pages, tokens, dim):
        return kvfs.Pages(caches, "pages tokens dim")
    if shape == (num_pages, heads, tokens, 2 * dim):
        if current_platform.is_cpu():  # a head's page is all K, then all V
            whole = [cache.view(num_pages, heads, 2, tokens, dim) for cache in caches]
            return kvfs.Pages(whole, "pages heads kv tokens dim")
        return kvfs.Pages([c.unflatten(-1, (2, dim)) for c in caches], "pages heads tokens kv dim")
    if shape == (2, num_pages, tokens, heads, dim):
        return kvfs.Pages(caches, "kv pages tokens heads dim")
    if shape == (num_pages, 2, tokens, heads, dim):
        return kvfs.Pages(caches, "pages kv tokens heads dim")
    raise ValueError(f"KV caches of the shape {shape} are not known")


def stream() -> int:
    """The engine's stream as libkvfs takes it; 0 where there is none."""
    if not torch.cuda.is_available() or current_platform.is_cpu():
        return 0
    return torch.cuda.current_stream().cuda_stream or 1  # 1: the default stream
