"""What vLLM runs, as a namespace: its name, its geometry, where its layers have what."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import kvfs
from kvfs.naming import short_name

from . import versions, weights
from .ranks import Share

ENCODED_DTYPES = {
    "packed": ("bfloat16",),
    "fp8": ("bfloat16", "float16", "float32"),
    "int8": ("bfloat16", "float16", "float32"),
}


class Unsupported(ValueError):
    """An engine whose KV the connector cannot store; the sentence says what it is."""


@dataclass(frozen=True)
class LayerGroup:
    """One of vLLM's KV cache groups: what its block table stands for."""

    layer_names: tuple[str, ...]
    spec: object


@dataclass(frozen=True)
class Model:
    name: str
    geometry: kvfs.Geometry
    groups: tuple[LayerGroup, ...]
    total_heads: int
    ranks: int


def describe(vllm_config, kv_cache_config, encoding: str = "raw") -> Model:
    """Raises Unsupported."""
    parallel = vllm_config.parallel_config
    for what in ("pipeline", "decode_context", "prefill_context"):
        if getattr(parallel, f"{what}_parallel_size", 1) > 1:
            raise Unsupported(f"{what} parallel engines are not supported yet")
    ranks = parallel.tensor_parallel_size
    if ranks > 1 and getattr(parallel, "nnodes", 1) > 1:
        raise Unsupported("ranks on several machines have no mount in common")
    groups = [
        LayerGroup(tuple(sorted(group.layer_names, key=_natural)), group.kv_cache_spec)
        for group in kv_cache_config.kv_cache_groups
    ]
    if not groups:
        raise Unsupported("the model has no KV cache")
    if not all(getattr(g, "enable_kv_transfer", True) for g in kv_cache_config.kv_cache_groups):
        raise Unsupported("KV caches that are copies of others are not supported yet")
    config = vllm_config.model_config
    spec = groups[0].spec
    planes = [versions.kv_factor(group.spec) for group in groups]
    for group, factor in zip(groups, planes, strict=True):
        if factor is None:
            kind = type(group.spec).__name__
            raise Unsupported(f"KV caches of the kind {kind} are not supported yet")
    for what in ("dtype", "block_size", "num_kv_heads"):
        if len({getattr(group.spec, what, None) for group in groups}) > 1:
            raise Unsupported(f"groups of layers that differ in {what} are not supported yet")
    total_heads = 1 if 1 in planes else config.get_total_num_kv_heads()
    try:
        Share.of(0, ranks, total_heads, spec.num_kv_heads)
    except ValueError as error:
        raise Unsupported(str(error)) from None
    names = [group.layer_names for group in groups] if len(groups) > 1 else []
    geometry = kvfs.Geometry(
        f"{short_name(config.model)} {fingerprint(vllm_config, names)}",
        spec.dtype,
        [
            kvfs.Group(
                len(group.layer_names),
                total_heads,
                group.spec.head_size,
                factor,
                versions.window(group.spec),
            )
            for group, factor in zip(groups, planes, strict=True)
        ],
        block_tokens=spec.block_size,
        layout=versions.layout(vllm_config, [group.spec for group in groups]),
        encoding=encoding,
    )
    dtype = str(spec.dtype).removeprefix("torch.")
    encodable = ENCODED_DTYPES.get(encoding, (dtype,))
    if encoding != "raw" and (geometry.layout != "canonical" or dtype not in encodable):
        what = f"{dtype} in the layout {geometry.layout}"
        raise Unsupported(f"{encoding} is for {' or '.join(encodable)} in GPU memory, not {what}")
    name = f"{short_name(config.model)}-{dtype}".lower()
    return Model(name, geometry, tuple(groups), total_heads, ranks)


def fingerprint(vllm_config, groups) -> str:
    """16 hex digits of what decides the KV beside the tokens: configuration and weights, and which
    layers are in which of several `groups`.

    The weights of a local directory are named by their sizes and samples of their bytes, those of a
    hub by id and revision; random ones by their seed. Equal copies in two places are the same model.
    """
    config = vllm_config.model_config
    hf = config.hf_config.to_dict()
    for name in ("_name_or_path", "_model_name_or_path", "transformers_version"):
        hf.pop(name, None)
    digest = hashlib.sha256(json.dumps(hf, sort_keys=True, default=str).encode())
    facts = [config.quantization, vllm_config.cache_config.cache_dtype, config.dtype, *groups]
    original = _long_rope_tokens(hf)
    if original is not None:  # all positions are turned by other factors in a long context
        facts.append(config.max_model_len > original)
    load_format = str(vllm_config.load_config.load_format)
    if "dummy" in load_format:
        facts += [load_format, config.model, config.seed]
    elif not Path(config.model).exists():
        facts += [config.model, config.revision]
    digest.update(repr([str(fact) for fact in facts]).encode())
    if "dummy" not in load_format:
        for piece in weights.samples(Path(config.model)):
            digest.update(piece)
    return digest.hexdigest()[:16]


def _long_rope_tokens(hf: dict) -> int | None:
    """Of a model with LongRoPE: up to which length of a context it takes its short factors."""
    for rope in (hf.get("rope_scaling"), hf.get("rope_parameters")):
        if isinstance(rope, dict) and "longrope" in (rope.get("rope_type"), rope.get("type")):
            name = "original_max_position_embeddings"
            return rope.get(name) or hf.get(name) or hf.get("max_position_embeddings", 0)
    text = hf.get("text_config")
    return _long_rope_tokens(text) if isinstance(text, dict) else None


def _natural(name: str) -> list:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
