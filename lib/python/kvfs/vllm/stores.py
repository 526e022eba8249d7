"""Stores of a worker: slots, copies, commits, on threads of their own. No vLLM import."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import kvfs

from .failures import Failures
from .messages import Report, Step, Store

logger = logging.getLogger("vllm.kvfs")

# After a store that failed, so long none is tried: what was wrong is probably wrong still.
_PAUSE_S = 1.0
# How long a rank waits for the step that another rank is in already.
_STEP_S = 10.0


@dataclass(frozen=True)
class _Ended:
    """`lost`: blocks before this store's are gone, or nothing could be stored (`refused`). `cut`: no
    more of the request can be."""

    published: int = 0
    lost: bool = False
    refused: bool = False
    cut: bool = False


_REFUSED = _Ended(lost=True, refused=True)


def copy(reservation, store: Store, pages, stream: int) -> None:
    """All groups of the engine's memory into a reservation's slots."""
    for group, (of_group, table) in enumerate(zip(pages, store.pages, strict=True)):
        reservation.store(of_group, page_table=table, group=group, stream=stream)


class LeadingStores:
    """Of the only rank, or the first: reserves, copies its heads, has the other ranks copy theirs
    (`ranks`, a ranks.Leader), commits. One at a time, in the order they were given."""

    def __init__(self, namespace, pages, failures: Failures, ranks=None):
        self._namespace = namespace
        self._pages = pages
        self._failures = failures
        self._ranks = ranks
        self._under_way: dict[int, tuple[str, Future]] = {}
        self._thread = ThreadPoolExecutor(1, "kvfs-store")
        self._paused_until = 0.0

    def begin(self, step: Step, stream: int) -> None:
        for store in step.stores:
            ended = self._thread.submit(self._store, store, stream)
            self._under_way[store.job] = (store.request_id, ended)

    def flush(self, step: Step) -> None:
        """Returns when none of these stores reads its pages any more."""
        for job in step.flush:
            _, ended = self._under_way.get(job, (None, None))
            if ended is not None and not ended.cancel():
                ended.exception()  # waits for the end

    def settle(self) -> None:
        """Returns when all stores have ended."""
        wait([ended for _, ended in self._under_way.values()])

    def report(self, report: Report) -> None:
        for job, (request_id, future) in list(self._under_way.items()):
            if not future.done():
                continue
            del self._under_way[job]
            report.stored.append(job)
            ended = _Ended() if future.cancelled() else future.result()
            report.stored_blocks += ended.published
            if ended.lost:
                report.lost.append(request_id)
            if ended.refused:
                report.refused.append(request_id)
            if ended.cut:
                report.cut.append(request_id)

    def close(self) -> None:
        """Stores that wait are finished, so that a run's end is kept."""
        self._thread.shutdown()
        if self._ranks is not None:
            self._ranks.close()

    def _store(self, store: Store, stream: int) -> _Ended:
        alone = self._ranks is not None and not self._ranks.connected.is_set()
        if alone or time.monotonic() < self._paused_until:
            return _REFUSED
        try:
            with self._namespace.reserve(store.tokens, store.extras) as reservation:
                if reservation.count == 0:
                    return _Ended()
                if reservation.first_block < store.first_block:
                    return _Ended(lost=True)
                asked = None if self._ranks is None else self._ranks.ask(store.job, reservation)
                copy(reservation, store, self._pages, stream)
                if asked is not None and not asked.wait():
                    return _Ended(lost=True)
                done = reservation.commit()
                # Fewer than reserved: a block did not pack.
                cut = done.committed + done.present < reservation.count
                return _Ended(done.committed, cut=cut)
        except kvfs.Error as error:
            self._paused_until = time.monotonic() + _PAUSE_S
            count = len(store.pages[0]) - store.first_block
            self._failures.warn("%d blocks not stored: %s", count, error)
            return _REFUSED
        except Exception:  # a bug must not end the stores of the requests that follow
            logger.exception("kvfs: store failed")
            return _REFUSED


class JoiningStores:
    """Of another rank: copies its heads when the first rank asks it to.

    The first rank may be a step ahead: then the step is awaited. A store that was flushed before
    it was asked for is refused, so that it is not published.
    """

    def __init__(self, namespace, pages, failures: Failures, follower):
        self._namespace = namespace
        self._pages = pages
        self._failures = failures
        self._changed = threading.Condition()
        self._waiting: dict[int, tuple[Store, int]] = {}
        self._copying: int | None = None
        self._latest = 0
        self._follower = follower
        follower.start(self._take_part)

    def begin(self, step: Step, stream: int) -> None:
        with self._changed:
            for store in step.stores:
                self._waiting[store.job] = (store, stream)
                self._latest = max(self._latest, store.job)
            self._changed.notify_all()

    def flush(self, step: Step) -> None:
        with self._changed:
            for job in (*step.flush, *step.ended):
                self._waiting.pop(job, None)
            self._changed.wait_for(lambda: self._copying not in step.flush)

    def settle(self) -> None:
        """What the first rank has not asked for yet is refused."""
        with self._changed:
            self._waiting.clear()
            self._changed.wait_for(lambda: self._copying is None)

    def report(self, report: Report) -> None:
        pass  # the first rank does

    def close(self) -> None:
        self._follower.close()

    def _take_part(self, job: int, reservation_id: int, first_block: int, count: int) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._latest >= job, _STEP_S)
            found = self._waiting.pop(job, None)
            if found is None:
                return False
            self._copying = job
        try:
            with self._namespace.join(reservation_id, first_block, count) as reservation:
                copy(reservation, found[0], self._pages, found[1])
            return True
        except (kvfs.Error, ValueError) as error:
            self._failures.warn("this rank's heads of %d blocks not stored: %s", count, error)
            return False
        finally:
            with self._changed:
                self._copying = None
                self._changed.notify_all()


class NoStores:
    """Of a rank whose heads another rank has, too, and stores."""

    def begin(self, step: Step, stream: int) -> None:
        pass

    def flush(self, step: Step) -> None:
        pass

    def settle(self) -> None:
        pass

    def report(self, report: Report) -> None:
        pass

    def close(self) -> None:
        pass
