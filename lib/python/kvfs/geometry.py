"""What a namespace's blocks are made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_DTYPES = {
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "int8": "I8",
    "uint8": "U8",
}


def dtype_name(dtype) -> str:
    """The safetensors name of a dtype: a str ("bfloat16", "BF16"), a numpy dtype or a torch dtype.

    >>> dtype_name("torch.bfloat16"), dtype_name("F16")
    ('BF16', 'F16')
    """
    name = str(getattr(dtype, "__name__", dtype)).removeprefix("torch.")
    name = _DTYPES.get(name, name)
    if name not in _DTYPES.values():
        known = ", ".join(_DTYPES)
        raise ValueError(f"dtype {name} is not one that kvfs stores: {known}")
    return name


@dataclass(frozen=True)
class Group:
    """Layers that are cached alike.

    A block of the group has kv_factor * layers * kv_heads * head_dim * block_tokens elements.
    `kv_factor` is 2 (K and V), or 1 where one latent stands for both (MLA). `window` is the length
    of a sliding window in tokens; 0 is full attention.
    """

    layers: int
    kv_heads: int
    head_dim: int
    kv_factor: int = 2
    window: int = 0


@dataclass(frozen=True)
class Geometry:
    """The model and layout of a namespace, fixed when it is created.

    `groups` is one Group or several; `dtype` is anything dtype_name() knows. `salt` separates
    tenants: the same tokens under another salt have other keys. `layout` is "canonical", or
    "opaque:<tag>" for an engine whose block bytes have a meaning only it knows. `encoding` is "raw";
    "packed": bfloat16 stored in three quarters of its bytes, bit for bit; or "fp8" or "int8":
    bfloat16, float16 or float32 rounded to one byte a number, with a scale for each layer's K and V
    of a head.

    >>> geometry = Geometry("llama-3.1-8b", "bfloat16", Group(layers=32, kv_heads=8, head_dim=128))
    >>> geometry.block_bytes() // 1024**2, geometry.block_tokens
    (2, 16)
    """

    model: str
    dtype: str
    groups: tuple[Group, ...]
    block_tokens: int = 16
    salt: str = ""
    layout: str = "canonical"
    encoding: str = "raw"

    def __post_init__(self):
        groups = self.groups
        if isinstance(groups, Group):
            groups = (groups,)
        elif not isinstance(groups, Iterable):
            raise TypeError("groups is a kvfs.Group or several")
        object.__setattr__(self, "groups", tuple(groups))
        object.__setattr__(self, "dtype", dtype_name(self.dtype))

    def block_bytes(self, group: int = 0) -> int:
        """Bytes of one block of a group, as an engine has it."""
        item = {"F32": 4, "F16": 2, "BF16": 2}.get(self.dtype, 1)
        g = self.groups[group]
        return g.kv_factor * g.layers * g.kv_heads * g.head_dim * self.block_tokens * item
