"""Loads and stores beside work that torch has given a CUDA stream, as an engine's.

    KVFS_BIN_DIR=... PYTHONPATH=... python3 tests/python/torch_streams.py

On a daemon of its own, and without pytest: for a machine with a GPU that has only torch.
"""

import os
import sys
import tempfile
from pathlib import Path

import kvfs
import torch

TOKENS, LAYERS, HEADS, DIM = 1024, 8, 4, 64  # 8 MiB: several parts
LAYOUT = "layers kv tokens heads dim"
WORK = 200_000_000  # cycles of the GPU's clock: some tenth of a second


def geometry() -> kvfs.Geometry:
    return kvfs.Geometry(
        "test/streams", torch.bfloat16, kvfs.Group(LAYERS, HEADS, DIM), block_tokens=16
    )


def prompt(seed: int) -> list[int]:
    return [seed, *range(1, TOKENS)]


def numbers(seed: int) -> torch.Tensor:
    generator = torch.Generator("cuda").manual_seed(seed)
    shape = (LAYERS, 2, TOKENS, HEADS, DIM)
    return torch.randn(shape, generator=generator, dtype=torch.bfloat16, device="cuda")


def store(namespace, seed: int, cache: torch.Tensor, stream: torch.cuda.Stream) -> None:
    with namespace.reserve(prompt(seed)) as reservation:
        reservation.store(kvfs.Pages(cache, LAYOUT), stream=stream.cuda_stream)
        reservation.commit()


def load(namespace, seed: int, cache: torch.Tensor, stream: torch.cuda.Stream) -> None:
    with namespace.acquire(prompt(seed)) as lease:
        assert lease.tokens == TOKENS
        transfer = lease.load_async(kvfs.Pages(cache, LAYOUT), stream=stream.cuda_stream)
        transfer.wait(30)


def check(namespace, stream: torch.cuda.Stream, seed: int) -> None:
    """The stream's work before a store is in what it stores; that before a load reads what was
    there before."""
    kv, others = numbers(seed), numbers(seed + 1)
    cache, read = torch.zeros_like(kv), torch.zeros_like(kv)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(WORK)
        cache.copy_(kv)
    store(namespace, seed, cache, stream)
    cache.copy_(others)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(WORK)
        read.copy_(cache)
    load(namespace, seed, cache, stream)
    torch.cuda.synchronize()
    assert torch.equal(cache, kv), "the store was before the stream's copy, or the load is wrong"
    assert torch.equal(read, others), "the load was before the stream's reader"


def streams() -> dict[str, torch.cuda.Stream]:
    return {"a stream": torch.cuda.Stream(), "the default stream": torch.cuda.default_stream()}


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from support.daemon import Daemon

    with tempfile.TemporaryDirectory(prefix="kvfs-streams-", dir="/var/tmp") as root:
        daemon = Daemon(Path(os.environ["KVFS_BIN_DIR"]), Path(root)).start()
        try:
            kvfs.create_namespace(daemon.mount, "ns", geometry())
            with kvfs.open(daemon.mount, "ns") as namespace:
                for seed, (name, stream) in enumerate(streams().items(), start=1):
                    check(namespace, stream, seed * 10)
                    print("torch_streams:", name, "is waited for")
        finally:
            daemon.remove()


if __name__ == "__main__":
    main()
