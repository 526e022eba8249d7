"""A load under way, and when its request may go on before it has ended. No vLLM import.

A request may be scheduled while the last layers of its prefix are still on their way to a GPU: its
step computes the first layers meanwhile, and waits at each layer whose KV is not there yet. Until
that step the load holds the request's pages like any other, and no other step begins before it has
ended: what is freed is not written to any more.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future

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
    """A load from its beginning to its end, in libkvfs's threads. The lease is held until the end,
    by a thread of `clocks`, which also notes the moment: the engine asks only once a step, and an
    engine without requests has no steps.

    Raises kvfs.Error or ValueError where it cannot begin.
    """

    def __init__(self, namespace, pages, load: Load, *, stream, timeout, by_layers, clocks):
        self.load = load
        self._namespace, self._pages, self._timeout = namespace, pages, timeout
        self._layers = namespace.geometry.groups[0].layers
        self._step = layer_step(namespace.geometry, load) if by_layers else 0
        self._began = time.perf_counter()
        lease, self._transfers = self._begin(stream, self._step)  # emptied at the end
        self._end: Future = clocks.submit(_end_of, lease, self._transfers)

    @property
    def done(self) -> bool:
        return self._end.done()

    def nearly_done(self, idle: bool) -> bool:
        """Whether what is left is worth waiting for within a step; `idle`: it is alone there."""
        first = next(iter(self._transfers), None) if self._step else None
        there = first.layers if first is not None else 0
        if there == 0:
            return False
        left_s = (time.perf_counter() - self._began) / there * (self._layers - there)
        return left_s <= _WAIT_S or (idle and there + self._step >= self._layers)

    def wait_layers(self, layers: int) -> None:
        """Returns when the first `layers` are there, by a second load if need be.

        The step that waits computes tokens that vLLM will not compute again: where there is no
        second load either, RuntimeError ends the engine.
        """
        first = next(iter(self._transfers), None)
        try:
            if first is not None:
                first.wait_layers(layers)
            else:
                self.end()
        except kvfs.Error as error:
            logger.warning("kvfs: loading %d blocks again: %s", self.load.blocks, error)
            self._again()

    def wait(self) -> None:
        """The same for all layers."""
        self.wait_layers(self._layers)

    def end(self) -> float:
        """The seconds that it took, when it has ended; raises what it failed with."""
        ended, error = self._end.result()
        if error is not None:
            raise error
        return ended - self._began

    # ---- inside

    def _begin(self, stream: int, step: int):
        load, transfers = self.load, []
        lease = self._namespace.acquire(load.key)
        if lease is None:
            raise kvfs.NotFound("the prefix was evicted")
        try:
            for group, (pages, run) in enumerate(zip(self._pages, load.runs, strict=True)):
                transfers.append(
                    lease.load_async(
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
            _end_of(lease, transfers)  # nothing may still write to pages that vLLM is given back
            raise
        return lease, transfers

    def _again(self) -> None:
        deadline = time.monotonic() + _AGAIN_S
        self._end.result()  # nothing of the first load is under way
        while True:
            try:
                error = _end_of(*self._begin(0, 0))[1]
            except kvfs.Error as refused:
                error = refused
            if error is None:
                return
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"kvfs: {self.load.blocks} blocks of {self.load.request_id} were lost"
                    f" while they were loaded: {error}"
                ) from error
            time.sleep(0.1)


def _end_of(lease, transfers: list[kvfs.Transfer]) -> tuple[float, Exception | None]:
    """Waits for all, gives the lease back: when that was, and what failed. Empties the list: whoever
    has a transfer keeps its lease."""
    failed = None
    for transfer in transfers:
        try:
            transfer.wait()
        except kvfs.Error as error:
            failed = failed or error
    moment = time.perf_counter()
    transfer = None
    transfers.clear()
    lease.release()
    return moment, failed
