"""A load under way, and when its request may go on before it has ended. No vLLM import.

A request may be scheduled while the last layers of its prefix are still on their way to a GPU: its
step computes the first layers meanwhile, and waits at each layer whose KV is not there yet. Until
that step the load holds the request's pages like any other, and no other step begins before it has
ended: what is freed is not written to any more.
"""

from __future__ import annotations

import logging
import math
import time
from concurrent.futures import Future

import kvfs

from .messages import Load

logger = logging.getLogger("vllm.kvfs")

# Of about so many bytes each layer step's pieces are (kvfs_transfer_wait_layers): smaller ones cost.
_PIECE_BYTES = 64 << 10
# So many bytes a second come over the link of a GPU: a slower one brings more by layers than it need.
_LINK_BYTES_S = 50e9
# Of an engine's bytes, about so many are stored.
_STORED = {"raw": 1.0, "packed": 0.75, "fp8": 0.5, "int8": 0.5}
# Loads of less are over before a step has begun.
_LEAST_BYTES = 128 << 20
# What is left of a load that a step may wait for at most, when other requests are in it as well, and
# when there are none.
_WAIT_S = 0.02
_MOST_ALONE_S = 0.1
# For loading again what could not be loaded when its step had begun.
_AGAIN_S = 10.0


def layer_step(geometry: kvfs.Geometry, load: Load) -> int:
    """How many layers to load at a time; 0: all together, the request goes on at the load's end."""
    group = geometry.groups[0]
    if len(geometry.groups) > 1 or load.dram_blocks < load.blocks:
        return 0
    if geometry.layout != "canonical" or load.blocks * geometry.block_bytes() < _LEAST_BYTES:
        return 0
    layer_bytes = geometry.block_bytes() // (group.layers * group.kv_heads)
    step = max(1, math.ceil(_PIECE_BYTES / (layer_bytes * _STORED[geometry.encoding])))
    return step if 2 * step <= group.layers else 0


def layer_blocks(geometry: kvfs.Geometry, step: int, head_start_s: float) -> int:
    """How many blocks to load so: when the first step of layers has come, the others are to take as
    long as the head start of the request's step is."""
    layers = geometry.groups[0].layers
    stored = geometry.block_bytes() * _STORED[geometry.encoding]
    return math.ceil(head_start_s * layers / (layers - step) * _LINK_BYTES_S / stored)


class HeadStart:
    """How long before its end a load is told of. Learnt from how long steps took from then until
    their forwards asked for the last layer, less what they waited for layers: it is the engine's
    Python that takes the time. `alone`: of a step of its own; steps differ, and it costs nothing to
    be early. `beside`: of one that others are in, which are not to wait for it."""

    def __init__(self, seconds: float = 0.03):
        self._step_s = seconds

    @property
    def alone(self) -> float:
        return min(2 * self._step_s, _MOST_ALONE_S)

    @property
    def beside(self) -> float:
        return min(self._step_s, _WAIT_S)

    def learn(self, seconds: float) -> None:
        self._step_s = (self._step_s + seconds) / 2


class Loading:
    """A load from its beginning to its end, in libkvfs's threads. The lease is held until the end,
    by a thread of `clocks`, which also notes the moment: the engine asks only once a step, and an
    engine without requests has no steps.

    Raises kvfs.Error or ValueError where it cannot begin.
    """

    def __init__(self, namespace, pages, load: Load, *, stream, timeout, head_start, clocks):
        self.load = load
        self._head_start = head_start
        self._namespace, self._pages, self._timeout = namespace, pages, timeout
        geometry = namespace.geometry
        self._layers = geometry.groups[0].layers
        self._step = layer_step(geometry, load) if head_start is not None else 0
        self._by_layers = load.blocks  # so many of its blocks
        if self._step:
            blocks = layer_blocks(geometry, self._step, head_start.alone)
            self._by_layers = min(blocks, load.blocks)
        self._began = time.perf_counter()
        self._told: float | None = None  # when, if the request was told of before the end
        self._waited_s = 0.0  # since then
        self._reloaded = False
        lease, self._transfers = self._begin(stream, self._step)  # emptied at the end
        self._end: Future = clocks.submit(_end_of, lease, self._transfers)

    @property
    def done(self) -> bool:
        return self._end.done()

    def nearly_done(self, alone: bool) -> bool:
        """Whether what is left is worth waiting for within a step, `alone` or with others; if so
        the request counts as told of."""
        first = next(iter(self._transfers), None) if self._step else None
        there = first.layers if first is not None else 0
        if there == 0:
            return False
        now = time.perf_counter()
        left = self._by_layers / self.load.blocks * (1 - there / self._layers)
        left_s = (now - self._began) / (1 - left) * left
        if left_s > (self._head_start.alone if alone else self._head_start.beside):
            return False
        self._told = now
        return True

    def learn(self) -> None:
        """Within the step, when it has asked for the last layer."""
        self._head_start.learn(time.perf_counter() - self._told - self._waited_s)

    def wait_layers(self, layers: int) -> None:
        """Returns when the first `layers` are there, by a second load if need be.

        The step that waits computes tokens that vLLM will not compute again: where there is no
        second load either, RuntimeError ends the engine.
        """
        if self._reloaded:
            return
        first = next(iter(self._transfers), None)
        began = time.perf_counter()
        try:
            if first is not None:
                first.wait_layers(layers)
            else:
                self.end()
        except kvfs.Error as error:
            logger.warning("kvfs: loading %d blocks again: %s", self.load.blocks, error)
            self._again()
            self._reloaded = True
        self._waited_s += time.perf_counter() - began

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
                        layer_blocks=self._by_layers,
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
