"""The worker's side: copies between the engine's pages and kvfs. No vLLM import."""

from __future__ import annotations

import contextlib
import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import kvfs

from .messages import Load, Loaded, Report, Step, Store

logger = logging.getLogger("vllm.kvfs")

# After a store that failed, so long none is tried: what was wrong is probably wrong still.
_PAUSE_S = 1.0


@dataclass
class _LoadUnderWay:
    load: Load
    lease: kvfs.Lease
    transfer: kvfs.Transfer
    began: float
    ended: Future  # when, to the moment: the engine asks only once a step


def _end_of(taken: list[kvfs.Transfer]) -> float:
    """Takes the transfer out of the list: whoever has one keeps its lease."""
    transfer = taken.pop()
    with contextlib.suppress(kvfs.Error):  # whoever polls the transfer reports it
        transfer.wait()
    return time.perf_counter()


class Unattached:
    """In a Worker's place while there is no namespace: every load fails, every store has ended."""

    def __init__(self):
        self._failed: list[Load] = []
        self._report = Report()

    def flush(self, step: Step) -> None:
        pass

    def load(self, step: Step, stream: int = 0) -> None:
        self._failed += step.loads
        self._report.failed += [load.request_id for load in step.loads]

    def store(self, step: Step, stream: int = 0) -> None:
        self._report.stored += [store.job for store in step.stores]
        self._report.lost += [store.request_id for store in step.stores]

    def poll(self) -> tuple[set[str], set[int]]:
        failed, self._failed = self._failed, []
        pages = {page for load in failed for page in load.pages.tolist()}
        return {load.request_id for load in failed}, pages

    def report(self) -> Report:
        report, self._report = self._report, Report()
        return report

    def close(self) -> None:
        pass


class Worker:
    """Loads begin on the engine's thread and run in libkvfs; stores have a thread of their own.

    Nothing here raises for what kvfs cannot do: a load that fails is named by its pages, so that
    vLLM computes them, and a store that fails is a later miss.
    """

    def __init__(self, namespace, pages: kvfs.Pages, *, load_timeout_s: float = 10.0):
        self._namespace = namespace
        self._pages = pages
        self._timeout = load_timeout_s
        self._block_bytes = namespace.block_bytes()
        self._loads: list[_LoadUnderWay] = []
        self._finished: set[str] = set()
        self._bad_pages: set[int] = set()
        self._report = Report()
        self._stores: dict[int, Future] = {}
        self._threads = ThreadPoolExecutor(1, "kvfs-store")
        self._clocks = ThreadPoolExecutor(4, "kvfs-load")
        self._paused_until = 0.0
        self._failures = 0

    def flush(self, step: Step) -> None:
        """Before the step's forward: ends stores whose pages it writes to."""
        for job in step.flush:
            store = self._stores.get(job)
            if store is not None and not store.cancel():
                store.exception()  # waits for the end

    def load(self, step: Step, stream: int = 0) -> None:
        for load in step.loads:
            try:
                lease = self._namespace.acquire(load.key)
                if lease is None:
                    raise kvfs.NotFound("the prefix was evicted")
                transfer = lease.load_async(
                    self._pages,
                    page_table=load.pages,
                    first_token=load.first_block * self._namespace.block_tokens,
                    first_block=load.first_block,
                    count=len(load.pages),
                    timeout=self._timeout,
                    stream=stream,
                )
            except (kvfs.Error, ValueError) as error:
                self._load_failed(load, error)
            else:
                began = time.perf_counter()
                ended = self._clocks.submit(_end_of, [transfer])
                self._loads.append(_LoadUnderWay(load, lease, transfer, began, ended))

    def store(self, step: Step, stream: int = 0) -> None:
        """After the forward that computes them was launched on `stream`."""
        for store in step.stores:
            self._stores[store.job] = self._threads.submit(self._store, store, stream)

    def poll(self) -> tuple[set[str], set[int]]:
        """Requests whose loads have ended, and pages that got nothing, since the last call."""
        under_way = []
        for current in self._loads:
            if current.transfer.done:
                self._load_ended(current)
            else:
                under_way.append(current)
        self._loads = under_way
        finished, self._finished = self._finished, set()
        bad, self._bad_pages = self._bad_pages, set()
        return finished, bad

    def report(self) -> Report:
        for job in [job for job, store in self._stores.items() if store.done()]:
            store = self._stores.pop(job)
            self._report.stored.append(job)
            lost = None if store.cancelled() else store.result()
            if lost:
                self._report.lost.append(lost)
        report, self._report = self._report, Report()
        return report

    def close(self) -> None:
        """Ends what is under way; stores that wait are finished, so that a run's end is kept."""
        for current in self._loads:
            try:
                current.transfer.wait()
            except kvfs.Error as error:
                logger.debug("kvfs: load at the end: %s", error)
            current.lease.release()
        self._loads.clear()
        self._clocks.shutdown()
        self._threads.shutdown()

    # ---- inside

    def _load_ended(self, current: _LoadUnderWay) -> None:
        ended = current.ended.result()
        load = current.load
        try:
            current.transfer.wait(0)
        except kvfs.Error as error:
            self._load_failed(load, error)
        else:
            self._finished.add(load.request_id)
            size = len(load.pages) * self._block_bytes
            in_dram = load.dram_blocks * self._block_bytes
            self._report.loaded.append(Loaded(size, in_dram, ended - current.began))
        finally:
            current.lease.release()

    def _load_failed(self, load: Load, error: Exception) -> None:
        self._warn("load of %d blocks failed, they are computed: %s", len(load.pages), error)
        self._finished.add(load.request_id)
        self._bad_pages.update(load.pages.tolist())
        self._report.failed.append(load.request_id)

    def _store(self, store: Store, stream: int) -> str | None:
        """On the stores' thread. Returns the request where blocks before this store's are gone."""
        if time.monotonic() < self._paused_until:
            return store.request_id
        try:
            with self._namespace.reserve(store.tokens, store.extras) as reservation:
                if reservation.count == 0:
                    return None
                if reservation.first_block < store.first_block:
                    return store.request_id
                reservation.store(self._pages, page_table=store.pages, stream=stream)
                reservation.commit()
                return None
        except kvfs.Error as error:
            self._paused_until = time.monotonic() + _PAUSE_S
            self._warn("%d blocks not stored: %s", len(store.pages) - store.first_block, error)
            return store.request_id
        except Exception:  # a bug must not end the stores of the requests that follow
            logger.exception("kvfs: store failed")
            return store.request_id

    def _warn(self, message: str, *values) -> None:
        """The first time and then ever more rarely: a daemon that is gone fails every request."""
        self._failures += 1
        level = logging.WARNING if self._failures & (self._failures - 1) == 0 else logging.DEBUG
        logger.log(level, "kvfs: " + message, *values)
