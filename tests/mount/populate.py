"""Namespaces and prefixes on a real mount, made through its ABI alone; running programs on it."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass

import numpy as np
from raw_client import ControlError, Namespace, control

GEOMETRY = {
    "model": "test/tiny",
    "dtype": "BF16",
    "block_tokens": 16,
    "layers": 2,
    "kv_heads": 2,
    "head_dim": 64,
}  # 16 KiB a block


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


def remove_namespace(daemon, name: str) -> dict:
    """What a test has closed the kernel releases a moment later: until then it is busy."""
    give_up = time.monotonic() + 20
    while True:
        try:
            return control(f"{daemon.mount}/.kvfs/control", op="ns_remove", name=name, force=True)
        except ControlError as error:
            if error.code != "busy" or time.monotonic() > give_up:
                raise
            time.sleep(0.01)


def run(*command: object, status: int = 0, **options: object) -> str:
    """Runs an ordinary program; its output. Any other exit status than `status` fails."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=60, **options
    )
    assert done.returncode == status, (
        f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}"
    )
    return done.stdout
