"""The worker's side: copies between the engine's pages and kvfs. No vLLM import."""

from __future__ import annotations

import contextlib
import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import kvfs

from .failures import Failures
from .messages import Load, Loaded, Report, Step
from .stores import LeadingStores

logger = logging.getLogger("vllm.kvfs")


@dataclass
class _LoadUnderWay:
    load: Load
    lease: kvfs.Lease
    transfers: list[kvfs.Transfer]
    began: float
    ended: Future  # when, to the moment: the engine asks only once a step


def _end_of(taken: list[kvfs.Transfer]) -> float:
    """Takes the transfers out of the list: whoever has one keeps its lease."""
    while taken:
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

    def poll(self) -> tuple[set[str], list[Load]]:
        failed, self._failed = self._failed, []
        return {load.request_id for load in failed}, failed

    def report(self) -> Report:
        report, self._report = self._report, Report()
        return report

    def close(self) -> None:
        pass


class Worker:
    """Loads begin on the engine's thread and run in libkvfs; stores have threads of their own.

    Nothing here raises for what kvfs cannot do: a load that fails is named, so that vLLM computes
    its tokens, and a store that fails is a later miss. `pages`: of each group, the heads that this
    process has.
    """

    def __init__(self, namespace, pages: list[kvfs.Pages], stores=None, *, load_timeout_s=10.0):
        self._namespace = namespace
        self._pages = pages
        self._timeout = load_timeout_s
        self._loads: list[_LoadUnderWay] = []
        self._finished: set[str] = set()
        self._failed: list[Load] = []
        self._report = Report()
        self._failures = Failures()
        self._stores = stores or LeadingStores(namespace, pages, self._failures)
        self._clocks = ThreadPoolExecutor(4, "kvfs-load")

    def flush(self, step: Step) -> None:
        """Before the step's forward: ends stores whose pages it writes to."""
        self._stores.flush(step)

    def load(self, step: Step, stream: int = 0) -> None:
        for load in step.loads:
            try:
                self._begin(load, stream)
            except (kvfs.Error, ValueError) as error:
                self._load_failed(load, error)

    def store(self, step: Step, stream: int = 0) -> None:
        """After the forward that computes them was launched on `stream`."""
        self._stores.begin(step, stream)

    def poll(self) -> tuple[set[str], list[Load]]:
        """Requests whose loads have ended, and the loads that failed, since the last call."""
        under_way = []
        for current in self._loads:
            if all(transfer.done for transfer in current.transfers):
                self._load_ended(current)
            else:
                under_way.append(current)
        self._loads = under_way
        finished, self._finished = self._finished, set()
        failed, self._failed = self._failed, []
        return finished, failed

    def report(self) -> Report:
        self._stores.report(self._report)
        report, self._report = self._report, Report()
        return report

    def close(self) -> None:
        """Ends what is under way; stores that wait are finished, so that a run's end is kept."""
        for current in self._loads:
            for transfer in current.transfers:
                try:
                    transfer.wait()
                except kvfs.Error as error:
                    logger.debug("kvfs: load at the end: %s", error)
            current.lease.release()
        self._loads.clear()
        self._clocks.shutdown()
        self._stores.close()

    # ---- inside

    def _begin(self, load: Load, stream: int) -> None:
        lease = self._namespace.acquire(load.key)
        if lease is None:
            raise kvfs.NotFound("the prefix was evicted")
        began = time.perf_counter()
        transfers: list[kvfs.Transfer] = []
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
                    )
                )
        except (kvfs.Error, ValueError):
            _end_of(transfers)  # nothing may still write to pages that vLLM is given back
            raise
        ended = self._clocks.submit(_end_of, list(transfers))
        self._loads.append(_LoadUnderWay(load, lease, transfers, began, ended))

    def _load_ended(self, current: _LoadUnderWay) -> None:
        ended = current.ended.result()
        load = current.load
        try:
            for transfer in current.transfers:
                transfer.wait(0)
        except kvfs.Error as error:
            self._load_failed(load, error)
        else:
            self._finished.add(load.request_id)
            self._report.loaded.append(Loaded(load.blocks, load.dram_blocks, ended - current.began))
        finally:
            current.lease.release()

    def _load_failed(self, load: Load, error: Exception) -> None:
        self._failures.warn("load of %d blocks failed, they are computed: %s", load.blocks, error)
        self._finished.add(load.request_id)
        self._failed.append(load)
        self._report.failed.append(load.request_id)
