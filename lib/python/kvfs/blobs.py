"""Values of one size under keys of any kind: for engines that name KV by hashes of their own.

An engine with token ids is better served by Namespace: it gets the longest prefix in one call, and
kvfs compares tokens. Here a value is a block of its own, whose tokens are the SHA-256 of its key,
and that is compared.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np

from .errors import Error, NotFound
from .geometry import Geometry, Group
from .naming import open_namespace

logger = logging.getLogger("kvfs")

# The 16-bit pieces of a SHA-256 as tokens: one block.
_TOKENS = 16


class Blobs:
    """The values of `size` bytes of one engine's model: a namespace of the mount.

    Threads: any. Errors: kvfs.Error, for all but values that are not there.
    """

    def __init__(self, mount, name: str, model: str, size: int):
        if size <= 0 or size % _TOKENS:
            raise ValueError(f"{size} bytes are not a multiple of {_TOKENS}")
        self.size = size
        group = Group(layers=1, kv_heads=1, head_dim=size // _TOKENS, kv_factor=1)
        geometry = Geometry(model, "uint8", group, block_tokens=_TOKENS, layout="opaque:blob")
        self._namespace = open_namespace(mount, name, geometry)

    def holds(self, key: bytes) -> bool:
        """Without a system call, where the store's memory is mapped."""
        return bool(self._namespace.match(_tokens(key)))

    def hold(self, key: bytes):
        """A lease: the value stays until it is released. None where it is not there."""
        return self._namespace.acquire(_tokens(key))

    def get(self, key: bytes, buffer, timeout: float | None = 10.0) -> bool:
        """Whether it was there, and is in `buffer` (contiguous, writable, `size` bytes) now."""
        lease = self.hold(key)
        if lease is None:
            return False
        with lease:
            return self.load(lease, buffer, timeout)

    def load(self, lease, buffer, timeout: float | None = 10.0) -> bool:
        """get() of what is held."""
        try:
            lease.load_blocks([_bytes(buffer)], timeout=timeout)
        except NotFound:
            return False
        return True

    def put(self, key: bytes, buffer, timeout: float | None = 10.0) -> bool:
        """Whether it is new. Values that are there are not written again."""
        with self._namespace.reserve(_tokens(key)) as reservation:
            if reservation.count == 0:
                return False
            reservation.store_blocks([_bytes(buffer)], timeout=timeout)
            return reservation.commit().committed > 0

    def close(self) -> None:
        self._namespace.close()


class ManyBlobs:
    """Blobs of several sizes of one engine: namespaces `<name>-<size>`, opened when they are
    needed."""

    def __init__(self, mount, name: str, model: str):
        self._mount = mount
        self._name = name
        self._model = model
        self._opened: dict[int, Blobs] = {}

    def of(self, size: int) -> Blobs:
        found = self._opened.get(size)
        if found is None:
            made = Blobs(self._mount, f"{self._name}-{size}", self._model, size)
            found = self._opened.setdefault(size, made)
            if found is not made:  # another thread was faster
                made.close()
        return found

    def all(self) -> list[Blobs]:
        return list(self._opened.values())

    def close(self) -> None:
        while self._opened:
            self._opened.popitem()[1].close()


class InParts:
    """Many copies of one kind, on `threads`, the caller's among them.

    Threads: any; several callers share the others. close() before what is copied goes.
    Errors: RuntimeError where a thread cannot begin, when this is made; of a call after close().
    """

    def __init__(self, threads: int, name: str):
        self._parts = max(threads, 1)
        self._threads = ThreadPoolExecutor(self._parts, name)
        # All threads begin here: what submit() has queued when one cannot would be copied later.
        begun = threading.Barrier(self._parts)
        try:
            for _ in range(self._parts):
                self._threads.submit(begun.wait)
        except RuntimeError:
            begun.abort()
            self._threads.shutdown()
            raise

    def __call__(self, call, rows: list) -> list:
        """call(*row) of each. Nothing is copied any more when this returns or raises."""

        def some(first: int) -> list:
            return [call(*row) for row in rows[first :: self._parts]]

        count = min(self._parts, len(rows))
        others: list = []
        results = [None] * len(rows)
        try:
            for part in range(1, count):
                others.append(self._threads.submit(some, part))
            results[:: self._parts] = some(0)
        finally:
            wait(others)
        for part, other in enumerate(others, 1):
            results[part :: self._parts] = other.result()
        return results

    def close(self) -> None:
        self._threads.shutdown()


class Attempts:
    """Calls of kvfs for `who`, whose requests must not fail: what kvfs cannot do is a miss."""

    def __init__(self, who: str):
        self._who = who
        self.healthy = True

    def __call__(self, call, *arguments):
        """What it returns; None where kvfs cannot. A warning at the first of several failures."""
        try:
            result = call(*arguments)
        except (Error, ValueError) as error:
            log = logger.warning if self.healthy else logger.debug
            log("kvfs: %s goes on without it: %s", self._who, error)
            self.healthy = False
            return None
        self.healthy = True
        return result


def _tokens(key: bytes) -> np.ndarray:
    return np.frombuffer(hashlib.sha256(key).digest(), "<u2").astype(np.int32)


def _bytes(buffer) -> np.ndarray:
    """The buffer's memory as bytes, in place."""
    return np.frombuffer(buffer, np.uint8)
