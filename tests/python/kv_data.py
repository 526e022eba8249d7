"""KV with known bits, and the plainest way to store and load it."""

import kvfs
import numpy as np

BITS = {"F32": np.uint32, "F16": np.uint16, "BF16": np.uint16, "U8": np.uint8}


def geometry(dtype="bfloat16", block_tokens=16, layers=3, kv_heads=4, head_dim=8, **options):
    """A small model of one group."""
    kv_factor = options.pop("kv_factor", 2)
    group = kvfs.Group(layers, kv_heads, head_dim, kv_factor)
    return kvfs.Geometry("test/small", dtype, group, block_tokens=block_tokens, **options)


def random_tokens(count, seed):
    return np.random.default_rng(seed).integers(0, 50_000, count, dtype=np.int32)


def random_kv(geometry, tokens, seed):
    """[layers, kv_factor, tokens, heads, dim] of random bits, as integers of the dtype's width."""
    g = geometry.groups[0]
    shape = (g.layers, g.kv_factor, tokens, g.kv_heads, g.head_dim)
    bits = BITS[geometry.dtype]
    return np.random.default_rng(seed).integers(0, np.iinfo(bits).max, shape, dtype=bits)


def canonical(geometry, kv):
    """The same as a prefix file has it: [blocks, heads, layers, kv_factor, block_tokens, dim]."""
    layers, factor, tokens, heads, dim = kv.shape
    blocks = tokens // geometry.block_tokens
    kept = kv[:, :, : blocks * geometry.block_tokens]
    split = kept.reshape(layers, factor, blocks, geometry.block_tokens, heads, dim)
    return np.ascontiguousarray(split.transpose(2, 4, 0, 1, 3, 5))


PLAIN = "layers kv tokens heads dim"


def store(namespace, tokens, kv):
    """Stores the full blocks of `tokens`; what commit() says."""
    with namespace.reserve(tokens) as reservation:
        if reservation.count:
            reservation.store(kvfs.Pages(kv, PLAIN))
        return reservation.commit()


def load(namespace, prefix):
    """The KV of a cached prefix as random_kv() shapes it; None for a miss."""
    lease = namespace.acquire(prefix)
    if lease is None:
        return None
    g = namespace.geometry.groups[0]
    shape = (g.layers, g.kv_factor, lease.tokens, g.kv_heads, g.head_dim)
    kv = np.zeros(shape, BITS[namespace.geometry.dtype])
    with lease:
        lease.load(kvfs.Pages(kv, PLAIN))
    return kv
