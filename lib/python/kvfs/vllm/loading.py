"""A load under way, and when its request may go on before it has ended. No vLLM import.

A request may be scheduled while the last layers of its prefix are still on their way to a GPU: its
step computes the first layers meanwhile, and waits at each layer whose KV is not there yet. Until
that step the load holds the request's pages like any other, and no other step begins before it has
ended: what is freed is not written to any more.
"""

from __future__ import annotations

import contextlib
import logging
import time
from concurrent.futures import Executor, Future

import kvfs

from .messages import Load

logger = logging.getLogger("vllm.kvfs")

# Of so many bytes each layer step's pieces are (kvfs_transfer_wait_layers): smaller ones cost.
_PIECE_BYTES = 64 << 10
# Loads of less are over before a step has begun.
_LEAST_BYTES = 128 << 20
# What is left of a load that a step may wait for, when other requests are in it as well.
_WAIT_S = 0.02
# For loading again what could not be loaded when its step had begun.
_AGAIN_S = 10.0


def layer_step(geometry: kvfs.Geometry, load: Load) -> int:
    """How many layers to load at a time; 0: all together, the request goes on at the load's end."""
    group = geometry.groups[0]
    if len(geometry.groups) > 1 or geometry.encoding != "raw" or load.dram_blocks < load.blocks:
        return 0
    if geometry.layout != "canonical" or load.blocks * geometry.block_bytes() < _LEAST_BYTES:
        return 0
    layer_bytes = geometry.block_bytes() // (group.layers * group.kv_heads)
    step = max(1, -(-_PIECE_BYTES // layer_bytes))
    return step if 2 * step <= group.layers else 0


class Loading:
    """A load from its beginning to its end, in libkvfs's threads.

    Raises kvfs.Error or ValueError where it cannot begin. Held: the lease, until release().
    """

    def __init__(self, namespace, pages, load: Load, *, stream: int, timeout: float, by_layers):
        self.load = load
        self._namespace, self._pages, self._timeout = namespace, pages, timeout
        self._step = layer_step(namespace.geometry, load) if by_layers else 0
        self._transfers: list[kvfs.Transfer] = []
        self._lease: kvfs.Lease | None = None
        self.began = time.perf_counter()
        self._begin(stream, self._step)

    def watch(self, clocks: Executor) -> None:
        """Notes the moment of the end: the engine asks only once a step."""
        self._ended: Future = clocks.submit(_end_of, list(self._transfers))

    @property
    def done(self) -> bool:
        return all(transfer.done for transfer in self._transfers)

    def nearly_done(self, idle: bool) -> bool:
        """Whether what is left is worth waiting for within a step; `idle`: it is alone there."""
        if not self._step or self.done:
            return False
        layers = self._namespace.geometry.groups[0].layers
        there = self._transfers[0].layers
        if there == 0:
            return False
        left_s = (time.perf_counter() - self.began) / there * (layers - there)
        return left_s <= _WAIT_S or (idle and there + self._step >= layers)

    def wait_layers(self, layers: int) -> None:
        """Returns when the first `layers` are there, by a second load if need be.

        The step that waits computes tokens that vLLM will not compute again: where there is no
        second load either, RuntimeError ends the engine.
        """
        try:
            self._transfers[0].wait_layers(layers)
        except kvfs.Error as error:
            logger.warning("kvfs: loading %d blocks again: %s", self.load.blocks, error)
            self._again()

    def wait(self) -> None:
        """The same for all layers."""
        self.wait_layers(self._namespace.geometry.groups[0].layers)

    def end(self) -> float:
        """The seconds that it took; raises as kvfs.Transfer.wait() does. It has ended."""
        ended = self._ended.result()
        for transfer in self._transfers:
            transfer.wait(0)
        return ended - self.began

    def release(self) -> None:
        for transfer in self._transfers:
            with contextlib.suppress(kvfs.Error):  # nothing may still write to pages given back
                transfer.wait()
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    # ---- inside

    def _begin(self, stream: int, step: int) -> None:
        load = self.load
        self._lease = self._namespace.acquire(load.key)
        if self._lease is None:
            raise kvfs.NotFound("the prefix was evicted")
        try:
            for group, (pages, run) in enumerate(zip(self._pages, load.runs, strict=True)):
                self._transfers.append(
                    self._lease.load_async(
                        pages,
                        page_table=run.pages,
                        first_token=run.first_block * self._namespace.block_tokens,
                        first_block=run.first_block,
                        count=len(run.pages),
                        group=group,
                        timeout=self._timeout,
                        stream=stream,
                        layer_step=step,
                    )
                )
        except (kvfs.Error, ValueError):
            self.release()
            raise

    def _again(self) -> None:
        deadline = time.monotonic() + _AGAIN_S
        while True:
            self.release()
            self._transfers.clear()
            try:
                self._begin(0, 0)
                self._transfers[0].wait()
                return
            except kvfs.Error as error:
                if time.monotonic() > deadline:
                    raise RuntimeError(
                        f"kvfs: {self.load.blocks} blocks of {self.load.request_id} were lost"
                        f" while they were loaded: {error}"
                    ) from error
                time.sleep(0.1)


def _end_of(taken: list[kvfs.Transfer]) -> float:
    """Takes the transfers out of the list: whoever has one keeps its lease."""
    while taken:
        transfer = taken.pop()
        with contextlib.suppress(kvfs.Error):  # whoever polls the transfer reports it
            transfer.wait()
    return time.perf_counter()
