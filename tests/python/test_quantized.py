"""Quantized namespaces: half the bytes, numbers rounded as PyTorch rounds them."""

import json
from pathlib import Path

import kv_data
import kvfs
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

# What is stored, its largest number, and the dtype of `kv` in a prefix file.
STORED = {"fp8": (448.0, torch.float8_e4m3fn), "int8": (127.0, torch.int8)}
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def geometry_of(encoding, dtype="bfloat16"):
    return kv_data.geometry(dtype, head_dim=64, encoding=encoding)


def real_kv(geometry, tokens, seed):
    """As kv_data.random_kv: normally distributed numbers, K and V of their own spread."""
    g = geometry.groups[0]
    shape = (g.layers, g.kv_factor, tokens, g.kv_heads, g.head_dim)
    numbers = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    numbers[:, 0] *= 20
    dtype = DTYPES[{"BF16": "bfloat16", "F16": "float16", "F32": "float32"}[geometry.dtype]]
    width = torch.int32 if dtype == torch.float32 else torch.int16
    bits = torch.from_numpy(numbers).to(dtype).view(width).numpy()
    return bits.view(kv_data.BITS[geometry.dtype])


def as_tensor(bits, dtype):
    width = torch.int32 if dtype == torch.float32 else torch.int16
    signed = np.int32 if dtype == torch.float32 else np.int16
    return torch.from_numpy(bits.view(signed)).view(width).view(dtype)


def quantized(kv, encoding):
    """What PyTorch makes of canonical blocks: numbers, and scales of each plane."""
    most, stored = STORED[encoding]
    numbers = kv.float()
    amax = numbers.abs().amax(dim=(-2, -1), keepdim=True)
    scaled = numbers * (torch.tensor(most) / amax)
    if encoding == "int8":
        scaled = scaled.round()
    return scaled.clamp(-most, most).to(stored), (amax / most)[..., 0, 0]


@pytest.fixture(params=["mapped", "fallback"])
def fallback(request):
    return request.param == "fallback"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("encoding", STORED)
def test_numbers_and_scales_are_pytorchs(make_namespace, daemon, fallback, encoding, dtype):
    geometry = geometry_of(encoding, dtype)
    namespace = make_namespace(geometry, force_fallback=fallback)
    tokens = kv_data.random_tokens(160, seed=1)
    kv = real_kv(geometry, 160, 1)
    key = kv_data.store(namespace, tokens, kv).key
    read = load_file(namespace.path(key))
    blocks = as_tensor(kv_data.canonical(geometry, kv), DTYPES[dtype])
    numbers, scales = quantized(blocks, encoding)
    assert read["kv"].dtype == STORED[encoding][1]
    assert torch.equal(read["kv"].view(torch.uint8), numbers.view(torch.uint8))
    assert torch.equal(read["scales"], scales)
    # What an engine loads is kv * scales in its own dtype.
    decoded = (read["kv"].float() * read["scales"][..., None, None]).to(DTYPES[dtype])
    loaded = kv_data.canonical(geometry, kv_data.load(namespace, tokens))
    assert torch.equal(as_tensor(loaded, DTYPES[dtype]), decoded)
    errors = (read["kv"].float() * read["scales"][..., None, None] - blocks.float()).abs()
    torch.testing.assert_close(read["errors"], errors.amax(dim=(-2, -1)), rtol=1e-3, atol=1e-6)
    seen = json.loads((Path(daemon.mount) / namespace.name / ".kvfs/stats.json").read_text())
    assert seen["encoding"] == encoding
    assert seen["largest_error"] == pytest.approx(read["errors"].max().item())


def test_what_is_a_byte_already_is_refused(daemon):
    geometry = kvfs.Geometry("m", "uint8", kvfs.Group(1, 1, 8), encoding="fp8")
    with pytest.raises(kvfs.Error, match="not U8"):
        kvfs.create_namespace(daemon.mount, "never", geometry)
