"""What vLLM runs, as a namespace: its name, its geometry, where its layers have what."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import kvfs
from kvfs.naming import short_name

from . import versions

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
_SAMPLE = 1 << 16


class Unsupported(ValueError):
    """An engine whose KV the connector cannot store; the sentence says what it is."""


@dataclass(frozen=True)
class Model:
    name: str
    geometry: kvfs.Geometry
    layer_names: tuple[str, ...]
    spec: object


def describe(vllm_config, kv_cache_config) -> Model:
    """Raises Unsupported."""
    parallel = vllm_config.parallel_config
    for what in ("tensor", "pipeline", "decode_context", "prefill_context"):
        if getattr(parallel, f"{what}_parallel_size", 1) > 1:
            raise Unsupported(f"{what} parallel engines are not supported yet")
    groups = kv_cache_config.kv_cache_groups
    if len(groups) != 1:
        raise Unsupported(f"the model has {len(groups)} KV cache groups, only one is supported yet")
    spec = groups[0].kv_cache_spec
    planes = versions.kv_factor(spec)
    if planes is None:
        raise Unsupported(f"KV caches of the kind {type(spec).__name__} are not supported yet")
    config = vllm_config.model_config
    geometry = kvfs.Geometry(
        f"{short_name(config.model)} {fingerprint(vllm_config)}",
        spec.dtype,
        kvfs.Group(len(groups[0].layer_names), spec.num_kv_heads, spec.head_size, planes),
        block_tokens=spec.block_size,
        layout=versions.layout(vllm_config, spec),
    )
    layers = tuple(sorted(groups[0].layer_names, key=_natural))
    dtype = str(spec.dtype).removeprefix("torch.")
    return Model(f"{short_name(config.model)}-{dtype}".lower(), geometry, layers, spec)


def fingerprint(vllm_config) -> str:
    """16 hex digits of what decides the KV beside the tokens: configuration and weights.

    The weights of a local directory are named by their sizes, first and last bytes, those of a hub
    by id and revision; random ones by their seed. Equal copies in two places are the same model.
    """
    config = vllm_config.model_config
    hf = config.hf_config.to_dict()
    for name in ("_name_or_path", "_model_name_or_path", "transformers_version"):
        hf.pop(name, None)
    digest = hashlib.sha256(json.dumps(hf, sort_keys=True, default=str).encode())
    facts = [config.quantization, vllm_config.cache_config.cache_dtype, config.dtype]
    load_format = str(vllm_config.load_config.load_format)
    if "dummy" in load_format:
        facts += [load_format, config.model, config.seed]
    elif not Path(config.model).exists():
        facts += [config.model, config.revision]
    digest.update(repr([str(fact) for fact in facts]).encode())
    if "dummy" not in load_format:
        for file in weight_files(Path(config.model)):
            digest.update(_sample(file))
    return digest.hexdigest()[:16]


def weight_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.glob("*") if file.suffix in _WEIGHTS)


def _sample(file: Path) -> bytes:
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(_SAMPLE)
        stream.seek(max(size - _SAMPLE, 0))
        return f"{file.name} {size} ".encode() + head + stream.read(_SAMPLE)


def _natural(name: str) -> list:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
