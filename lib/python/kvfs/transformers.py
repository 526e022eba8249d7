"""KV caches of transformers, kept between processes: two lines around generate().

    cache = kvfs.transformers.load("/kv", model, input_ids)  # what is cached of the prompt
    output = model.generate(input_ids, past_key_values=cache)
    kvfs.transformers.save("/kv", model, output, cache)  # prompt and answer, for the next one

Prompts of one sequence, models whose layers all keep every token (no sliding windows, no recurrent
state) and whose rotary embedding is the same at all lengths, caches that hold K and V as they are
(DynamicCache). Anything else is a ValueError.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import torch
from transformers import DynamicCache

from .geometry import Geometry, Group
from .layout import Pages
from .naming import open_namespace, short_name

_LAYOUT = "1 heads tokens dim"
_BLOCK_TOKENS = 16
# Whose frequencies change when a sequence passes some length.
_ROPE_OF_LENGTH = {"dynamic", "longrope"}


def load(mount, model, tokens, *, identity: str = "", encoding: str = "raw") -> DynamicCache:
    """A cache with the longest prefix of `tokens` that `mount` has; an empty one on a miss.

    At least one token is left to be computed, as generate() needs it. `identity` names what else
    the KV depends on and the weights do not say, such as an adapter that is switched on. `encoding`
    is how KV is stored (kvfs.Geometry): what was saved in one is not found in another.
    """
    tokens = _sequence(tokens)
    geometry = _geometry_of(model, encoding)
    group = geometry.groups[0]
    with open_namespace(mount, _name(model, encoding), geometry) as namespace:
        lease = namespace.acquire(tokens[:-1], _extras(identity))
        if lease is None:
            return DynamicCache()
        with lease:
            shape = (1, group.kv_heads, lease.tokens, group.head_dim)
            keys, values = (
                [
                    torch.empty(shape, dtype=model.dtype, device=model.device)
                    for _ in range(group.layers)
                ]
                for _ in range(2)
            )
            lease.load(Pages(keys=keys, values=values, layout=_LAYOUT))
    return DynamicCache(zip(keys, values, strict=True))


def save(mount, model, tokens, cache, *, identity: str = "", encoding: str = "raw") -> int:
    """Stores what `cache` has of `tokens` in full blocks; how many tokens those are (packed, fewer may
    be cached: a block that does not pack ends the prefix).

    `tokens` may be longer than the cache: the last token that generate() returns is not in it.
    """
    geometry = _geometry_of(model, encoding)
    group = geometry.groups[0]
    keys = [_kv(layer, "keys", group) for layer in cache.layers]
    values = [_kv(layer, "values", group) for layer in cache.layers]
    if len(keys) != group.layers:
        raise ValueError(f"the cache has {len(keys)} layers, the model {group.layers}")
    tokens = _sequence(tokens)[: keys[0].shape[2]]
    with (
        open_namespace(mount, _name(model, encoding), geometry) as namespace,
        namespace.reserve(tokens, _extras(identity)) as reservation,
    ):
        if reservation.count:
            reservation.store(Pages(keys=keys, values=values, layout=_LAYOUT))
            reservation.commit()
    return len(tokens) // geometry.block_tokens * geometry.block_tokens


def _sequence(tokens) -> np.ndarray:
    tokens = np.asarray(tokens.cpu() if isinstance(tokens, torch.Tensor) else tokens)
    if tokens.ndim == 2 and len(tokens) == 1:
        tokens = tokens[0]
    if tokens.ndim != 1:
        raise ValueError(f"one sequence of tokens is needed, not the shape {tokens.shape}")
    return np.ascontiguousarray(tokens, np.int32)


def _kv(layer, name: str, group: Group) -> torch.Tensor:
    tensor = getattr(layer, name, None)
    plain = isinstance(tensor, torch.Tensor) and not getattr(layer, "is_sliding", False)
    if not plain or tensor.ndim != 4:
        raise ValueError(f"the cache's layers are not plain ones: {type(layer).__name__}")
    batch, heads, _, dim = tensor.shape
    if (batch, heads, dim) != (1, group.kv_heads, group.head_dim):
        raise ValueError(f"the cache's {name} have the shape {tuple(tensor.shape)}")
    return tensor.detach()


def _geometry_of(model, encoding: str) -> Geometry:
    config = model.config.get_text_config(decoder=True)
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    if kinds or (getattr(config, "sliding_window", None) and not hasattr(config, "layer_types")):
        raise ValueError(f"layers that do not keep every token: {', '.join(kinds) or 'windows'}")
    if of_length := _rope_types(config) & _ROPE_OF_LENGTH:
        raise ValueError(f"rope_type {', '.join(of_length)}: KV depends on how long its prompt is")
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    group = Group(config.num_hidden_layers, heads, dim)
    name = f"{short_name(model.config.name_or_path)} {_fingerprint(model)}"
    return Geometry(name, model.dtype, group, block_tokens=_BLOCK_TOKENS, encoding=encoding)


def _rope_types(config) -> set[str]:
    """Of all kinds of layers, which may have parameters of their own."""
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *(of for of in rope.values() if isinstance(of, dict))]
    return {of["rope_type"] for of in kinds if "rope_type" in of}


def _name(model, encoding: str) -> str:
    kind = [str(model.dtype).removeprefix("torch."), *([] if encoding == "raw" else [encoding])]
    return "-".join([short_name(model.config.name_or_path), *kind]).lower()


def _fingerprint(model) -> str:
    """16 hex digits of the configuration and of each weight's first and last row."""
    config = model.config.to_dict()
    for name in ("_name_or_path", "transformers_version"):
        config.pop(name, None)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, weight in model.named_parameters():
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        for end in (0, -1):
            row = weight.detach()[(end,) * max(weight.ndim - 1, 0)]
            digest.update(row.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _extras(identity: str) -> dict[int, bytes] | None:
    return {0: identity.encode()} if identity else None
