"""What differs between vLLM's versions and platforms, in one place. Written against 0.26 to 0.33."""

from __future__ import annotations

import re
import weakref

import torch
import vllm
from vllm.config import CUDAGraphMode
from vllm.distributed import get_tensor_model_parallel_rank
from vllm.distributed.kv_events import BlockRemoved, BlockStored
from vllm.distributed.kv_transfer.kv_connector.v1 import base
from vllm.forward_context import get_forward_context, is_forward_context_available
from vllm.platforms import current_platform
from vllm.v1.core.kv_cache_utils import maybe_convert_block_hash
from vllm.v1.kv_cache_interface import (
    FullAttentionSpec,
    MLAAttentionSpec,
    SlidingWindowSpec,
)

import kvfs

from .events import Removed, Stored

# Since vLLM tells a connector's scheduler what its workers have done; without it stores are not
# ended before their pages are reused, so the connector needs it.
WorkerMetadata = base.KVConnectorWorkerMetadata

# Hybrid models with their groups apart: only where a request whose load failed can be named, as
# page ids say nothing there. For older versions vLLM makes one group of all layers.
TransferResults = getattr(base, "KVConnectorTransferResults", None)
SupportsHMA = base.SupportsHMA if TransferResults else type("NoGroups", (), {})

# What stands in a block table where a window has passed: the pool's first page.
NULL_PAGE = 0

# What vLLM's events call memory and what is below it, as against "GPU".
_MEDIUM = "CPU"

try:
    from vllm.v1.metrics.cache_hit_source import CacheHitSource
except ImportError:  # older versions count hits without their source
    CacheHitSource = None


def kv_factor(spec) -> int | None:
    """2: K and V; 1: one latent for both (MLA); None: something else, or KV that later tokens have a
    part in."""
    if type(spec) not in (FullAttentionSpec, MLAAttentionSpec, SlidingWindowSpec):
        return None
    if getattr(spec, "non_causal", False):
        return None
    padded = getattr(spec, "page_size_padded", None)
    packed = getattr(spec, "num_head_slots", None) or getattr(spec, "state_content_bytes", None)
    if padded is not None or packed or getattr(spec, "tokens_per_state", 1) != 1:
        return None
    if isinstance(spec, MLAAttentionSpec):
        return 1 if getattr(spec, "compress_ratio", 1) == 1 else None
    return 2 if getattr(spec, "head_size_v", spec.head_size) == spec.head_size else None


def window(spec) -> int:
    """Tokens whose KV is kept; 0: of all. A full-attention spec may carry a window too, where vLLM
    keeps all tokens of window layers."""
    if not isinstance(spec, SlidingWindowSpec):
        return 0
    return spec.sliding_window + getattr(spec, "extra_retained_tokens", 0)


def layout(vllm_config, specs) -> str:
    """Canonical on a GPU. On a CPU, attention kernels order a page's bytes as they like, and another
    version's may like another order."""
    if not current_platform.is_cpu():
        return "canonical"
    from vllm.v1.attention.backends.cpu_attn import _get_attn_isa

    dtype, cache_dtype = vllm_config.model_config.dtype, vllm_config.cache_config.cache_dtype
    kernels = {_get_attn_isa(dtype, s.block_size, s.head_size, cache_dtype) for s in specs}
    width = "avx512" if torch.cpu._is_avx512_supported() else "avx2"
    kernel = ".".join(sorted(kernels))
    architecture = current_platform.get_cpu_architecture().name.lower()
    tag = f"vllm-{vllm.__version__[-30:]}-{kernel}-{architecture}-{width}"
    return "opaque:" + re.sub(r"[^A-Za-z0-9._-]", ".", tag)  # what a tag may have


def images_are_named_by_content(vllm_config) -> bool:
    """Whether vLLM hashes images and the like. Where it caches neither what it made of them nor
    KV it counts them."""
    multimodal = getattr(vllm_config.model_config, "multimodal_config", None)
    cached = getattr(multimodal, "mm_processor_cache_gb", 1) != 0
    return cached or bool(vllm_config.cache_config.enable_prefix_caching)


def rank() -> int:
    """This worker's among the tensor-parallel ones."""
    return get_tensor_model_parallel_rank()


def pages(caches: list[torch.Tensor], spec, planes: int, num_pages: int, first_head) -> kvfs.Pages:
    """The engine's layers for libkvfs. ValueError for a shape that is none of those known."""

    def described(tensors, axes: str) -> kvfs.Pages:
        return kvfs.Pages(tensors, axes, first_head=first_head)

    shape = tuple(caches[0].shape)
    heads, tokens, dim = spec.num_kv_heads, spec.block_size, spec.head_size
    if planes == 1 and shape == (num_pages, tokens, dim):
        return described(caches, "pages tokens dim")
    if shape == (num_pages, heads, tokens, 2 * dim):
        if current_platform.is_cpu():  # a head's page is all K, then all V
            whole = [cache.view(num_pages, heads, 2, tokens, dim) for cache in caches]
            return described(whole, "pages heads kv tokens dim")
        return described([c.unflatten(-1, (2, dim)) for c in caches], "pages heads tokens kv dim")
    if shape == (2, num_pages, tokens, heads, dim):
        return described(caches, "kv pages tokens heads dim")
    if shape == (num_pages, 2, tokens, heads, dim):
        return described(caches, "pages kv tokens heads dim")
    raise ValueError(f"KV caches of the shape {shape} are not known")


def stream() -> int:
    """The engine's stream as libkvfs takes it; 0 where there is none."""
    if not torch.cuda.is_available() or current_platform.is_cpu():
        return 0
    return torch.cuda.current_stream().cuda_stream or 1  # 1: the default stream


def layers_asked_for(groups) -> tuple[str, ...]:
    """The layers whose loads may end within a forward, one by one: on a GPU, of a single group."""
    if current_platform.is_cpu() or len(groups) > 1:
        return ()
    return groups[0].layer_names


def forward_asks_for_layers() -> bool:
    """Whether the forward of this step, which is about to begin, calls wait_for_layer_load: not where
    a graph of all of it is replayed (some versions do that without a context)."""
    if not is_forward_context_available():
        return False
    context = get_forward_context()
    mode = getattr(context, "cudagraph_runtime_mode", None)
    return context.attn_metadata is not None and mode is not CUDAGraphMode.FULL


# Whoever is to settle before vLLM takes away the memory of KV caches: of this process's engines.
_settling: weakref.WeakSet = weakref.WeakSet()


def settle_before_sleep(vllm_config, connector) -> None:
    """Has `connector.settle` called each time before vLLM takes away the memory of KV caches (sleep,
    and what 0.32 calls discard), which no connector is told of. Does not keep it."""
    model = vllm_config.model_config
    movable = ("enable_sleep_mode", "enable_cumem_allocator")
    if not any(getattr(model, name, False) for name in movable):
        return
    try:
        from vllm.device_allocator import get_mem_allocator_instance
    except ImportError:  # older versions have one allocator
        from vllm.device_allocator.cumem import CuMemAllocator

        get_mem_allocator_instance = CuMemAllocator.get_instance
    _settling.add(connector)
    allocator = get_mem_allocator_instance()  # the process's only one
    for name in ("sleep", "discard"):
        taking = getattr(allocator, name, None)
        if taking is not None and not hasattr(taking, "settles"):
            setattr(allocator, name, _settled(taking))


def _settled(taking):
    def settle_and_take(*args, **options):
        for connector in list(_settling):
            connector.settle()
        return taking(*args, **options)

    settle_and_take.settles = True
    return settle_and_take


def tells_events(vllm_config) -> bool:
    """Whether somebody follows what is cached (--kv-events-config)."""
    config = vllm_config.kv_events_config
    return config is not None and config.enable_kv_cache_events


def kv_events(events: list[Stored | Removed], block_tokens: int):
    """As vLLM publishes them."""
    for event in events:
        hashes = [maybe_convert_block_hash(one) for one in event.hashes]
        if isinstance(event, Removed):
            yield BlockRemoved(block_hashes=hashes, medium=_MEDIUM)
            continue
        names = {"lora_name": event.lora and event.lora.lora_name}
        yield BlockStored(
            block_hashes=hashes,
            parent_block_hash=event.parent and maybe_convert_block_hash(event.parent),
            token_ids=event.tokens,
            block_size=block_tokens,
            lora_id=event.lora and event.lora.lora_int_id,
            medium=_MEDIUM,
            **{name: of for name, of in names.items() if name in BlockStored.__struct_fields__},
        )
