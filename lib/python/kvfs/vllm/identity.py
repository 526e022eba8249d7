"""What belongs to a block's identity beside its tokens: the extra bytes of kvfs keys."""

from __future__ import annotations

import uuid

from . import weights


def _text(*parts) -> bytes:
    """Unambiguous whatever the parts contain."""
    return b"".join(f"{len(p := str(part).encode())}:".encode() + p for part in parts)


def cacheable(request, images: bool = True) -> bool:
    """False where tokens do not say what the KV was computed from, or change under way. `images`:
    whether their identifiers name what is in them."""
    lora = getattr(request, "lora_request", None)
    return (
        request.prompt_token_ids is not None
        and getattr(request, "prompt_embeds", None) is None
        and not getattr(request, "resumable", False)
        and (images or not getattr(request, "mm_features", None))
        and (lora is None or weights.adapter(lora) is not None)
    )


def extras(request, block_tokens: int, epoch: str = "") -> dict[int, bytes] | None:
    """By block: LoRA, cache_salt and `epoch` in block 0, images and the like in each they touch.

    Keys are chains: what is in block 0 belongs to all that follow.
    """
    found: dict[int, list[bytes]] = {}
    lora = getattr(request, "lora_request", None)
    if lora is not None:
        files = weights.adapter(lora) or uuid.uuid4()  # they have changed since cacheable()
        found.setdefault(0, []).append(_text("lora", lora.lora_name, lora.lora_path, files))
    if getattr(request, "cache_salt", None):
        found.setdefault(0, []).append(_text("cache_salt", request.cache_salt))
    if epoch:
        found.setdefault(0, []).append(_text("epoch", epoch))
    for feature in getattr(request, "mm_features", None) or ():
        begin = feature.mm_position.offset
        end = begin + feature.mm_position.length
        for block in range(begin // block_tokens, (end - 1) // block_tokens + 1):
            place = begin - block * block_tokens
            found.setdefault(block, []).append(_text("mm", feature.identifier, place))
    return {block: b"".join(parts) for block, parts in sorted(found.items())} or None
