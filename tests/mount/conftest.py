"""Namespaces and stored prefixes on a real mount, made through its ABI alone."""

from __future__ import annotations

import itertools
import subprocess
from dataclasses import dataclass

import numpy as np
import pytest
from raw_client import Namespace, control

GEOMETRY = {
    "model": "test/tiny",
    "dtype": "BF16",
    "block_tokens": 16,
    "layers": 2,
    "kv_heads": 2,
    "head_dim": 64,
}  # 16 KiB a block
_numbers = itertools.count()


def make_tokens(blocks: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, 32000, blocks * 16).tolist()


def make_blocks(namespace: Namespace, count: int, seed: int = 0) -> list[list[bytes]]:
    random = np.random.default_rng(1000 + seed)
    return [[random.bytes(size) for size in namespace.block_bytes] for _ in range(count)]


@dataclass
class Prefix:
    tokens: list[int]
    blocks: list[list[bytes]]
    key: bytes
    path: str


def store_prefix(namespace: Namespace, count: int = 8, seed: int = 0) -> Prefix:
    tokens, blocks = make_tokens(count, seed), make_blocks(namespace, count, seed)
    key = namespace.store(tokens, blocks)
    return Prefix(tokens, blocks, key, namespace.file(key))


def create_namespace(daemon, name: str, geometry: dict | None = None, **owner: int) -> Namespace:
    control(
        f"{daemon.mount}/.kvfs/control",
        op="ns_create",
        name=name,
        geometry=geometry or GEOMETRY,
        **owner,
    )
    return Namespace(f"{daemon.mount}/{name}")


@pytest.fixture
def make_ns(daemon):
    """make_ns(geometry, uid=..., gid=..., mode=...): a Namespace that is removed after the test."""
    made: list[tuple[str, Namespace]] = []

    def make(geometry: dict | None = None, **owner: int) -> Namespace:
        name = f"ns-{next(_numbers)}"
        made.append((name, create_namespace(daemon, name, geometry, **owner)))
        return made[-1][1]

    yield make
    for name, namespace in made:
        namespace.close()
        control(f"{daemon.mount}/.kvfs/control", op="ns_remove", name=name, force=True)


@pytest.fixture
def ns(make_ns) -> Namespace:
    return make_ns()


@pytest.fixture
def prefix(ns) -> Prefix:
    """A stored prefix of 8 blocks."""
    return store_prefix(ns)


def run(*command: object, status: int = 0, **options: object) -> str:
    """Runs an ordinary program; its output. Any other exit status than `status` fails."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=60, **options
    )
    assert done.returncode == status, (
        f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}"
    )
    return done.stdout
