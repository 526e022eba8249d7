"""Where KV is in an engine's tensors: axes by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import _core

# The order is that of the binding.
AXES = ("layers", "kv", "pages", "tokens", "heads", "dim")


def axis_positions(layout: str) -> tuple[int, ...]:
    """Position of each of AXES in a layout, -1 for those it lacks.

    >>> axis_positions("kv pages tokens heads dim")
    (-1, 0, 1, 2, 3, 4)
    >>> axis_positions("1 heads tokens dim")
    (-1, -1, -1, 2, 1, 3)
    """
    names = layout.split()
    for name in names:
        if name not in AXES and name != "1":
            known = ", ".join(AXES)
            raise ValueError(f"layout '{layout}': '{name}' is no axis; there are {known} and 1")
        if name != "1" and names.count(name) > 1:
            raise ValueError(f"layout '{layout}': '{name}' is there twice")
    for name in ("tokens", "dim"):
        if name not in names:
            raise ValueError(f"layout '{layout}': the {name} axis is missing")
    return tuple(names.index(axis) if axis in names else -1 for axis in AXES)


class Pages(_core.Pages):
    """An engine's KV memory of one group of layers, described once for every load and store.

    Either `layers`: one tensor for each layer (each with a kv axis, or none where kv_factor is 1),
    or one tensor with a layers axis. Or `keys` and `values`: K and V in tensors of their own.
    `layout` names the tensors' axes in order: layers, kv (K, then V), pages, tokens (of a page, or
    of the whole memory where it is not paged), heads, dim; "1" is an axis of one element. dim must
    be contiguous; the other strides may be anything. All tensors have one shape, the same strides,
    dtype and device, and are kept alive; nothing is copied. `first_head` is the model's KV head of
    the heads axis' first: a tensor-parallel rank describes the heads it has. An opaque namespace
    takes tensors whose pages are its blocks: block_tokens tokens, and the tokens of one layer, head
    and plane (K or V) one run of memory.

    Engines, and how they are written:

        vLLM, FlashAttention   Pages(caches, "kv pages tokens heads dim")
        K, V in one last axis  Pages([c.unflatten(-1, (2, d)) for c in caches],
                                     "pages heads tokens kv dim")
        SGLang                 Pages(keys=k_buffers, values=v_buffers, layout="tokens heads dim")
        transformers           Pages(keys=k, values=v, layout="1 heads tokens dim")
        MLA                    Pages(caches, "pages tokens dim")

    >>> import numpy
    >>> cache = numpy.zeros((2, 2, 100, 16, 4, 64), "float16")
    >>> pages = Pages(cache, "layers kv pages tokens heads dim")
    >>> pages.layers, pages.pages, pages.tokens, pages.heads
    (2, 100, 16, 4)
    """

    def __init__(
        self,
        layers: Any | None = None,
        layout: str = "kv pages tokens heads dim",
        *,
        keys: Sequence[Any] | None = None,
        values: Sequence[Any] | None = None,
        first_head: int = 0,
    ):
        axes = axis_positions(layout)
        apart = keys is not None or values is not None
        if apart == (layers is not None) or (keys is None) != (values is None):
            raise ValueError("give either layers, or both keys and values")
        if apart:
            if len(keys) != len(values):
                raise ValueError(f"{len(keys)} keys, but {len(values)} values")
            for axis in ("kv", "layers"):
                if axes[AXES.index(axis)] >= 0:
                    raise ValueError(f"layout '{layout}': keys and values have no {axis} axis")
            layers = [tensor for pair in zip(keys, values, strict=True) for tensor in pair]
        elif axes[AXES.index("layers")] >= 0:
            layers = [layers]
        super().__init__(layers, axes, apart, first_head)
