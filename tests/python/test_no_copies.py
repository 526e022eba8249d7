"""That tensors are used in place: each case runs where there is no memory for a copy."""

import resource
import subprocess
import sys
from pathlib import Path

import kv_data
import numpy as np
import pytest

MIB = 1 << 20


def limit_new_memory(mib: int) -> None:
    """From here on, private memory may grow by `mib` MiB only. File mappings do not count."""
    status = Path("/proc/self/status").read_text()
    used = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (used * 1024 + mib * MIB,) * 2)


def run_here(case: str, *arguments: str) -> None:
    """Runs one function of this file in a process of its own, whose limits are its own."""
    command = [sys.executable, __file__, case, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


def as_given_by(library: str):
    if library == "numpy":
        return np.asarray
    import torch

    return torch.from_numpy


def the_limit_works() -> None:
    limit_new_memory(32)
    try:
        np.ones(64 * MIB, np.uint8)
    except MemoryError:
        return
    sys.exit("a copy would have gone unnoticed")


def store_and_load(mount: str, name: str, library: str) -> None:
    import kvfs

    with kvfs.open(mount, name) as namespace:
        tokens = np.arange(1024, dtype=np.int32)
        kv = kv_data.random_kv(namespace.geometry, 1024, 1)
        loaded = np.zeros_like(kv)
        assert kv.nbytes == 64 * MIB
        as_given = as_given_by(library)
        limit_new_memory(48)
        with namespace.reserve(tokens) as reservation:
            reservation.store(kvfs.Pages(as_given(kv), kv_data.PLAIN))
            reservation.commit()
        with namespace.acquire(tokens) as lease:
            lease.load(kvfs.Pages(as_given(loaded), kv_data.PLAIN))
        assert all(np.array_equal(a, b) for a, b in zip(loaded, kv, strict=True))


def match_tokens(mount: str, name: str, library: str) -> None:
    import kvfs

    with kvfs.open(mount, name) as namespace:
        tokens = as_given_by(library)(np.zeros(16 * MIB, np.int32))
        limit_new_memory(48)  # less than the tokens' 64 MiB, more than their keys' 16
        assert not namespace.match(tokens)


def test_the_limit_works():
    run_here("the_limit_works")


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("case", ["store_and_load", "match_tokens"])
def test_in_place(make_namespace, case, library):
    geometry = kv_data.geometry("uint8", layers=32, kv_heads=8, head_dim=128)
    namespace = make_namespace(geometry)
    run_here(case, namespace.mount, namespace.name, library)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
