"""The scheduler's side: what is cached, what is to be loaded and what stored. No vLLM import."""

from __future__ import annotations

import itertools
import logging
import sys
import time
import uuid

import kvfs

from .break_even import BreakEven
from .growing import Growing
from .identity import cacheable, extras
from .messages import Load, Report, Run, Step, Store

logger = logging.getLogger("vllm.kvfs")


# How long a request whose prompt another engine has just computed waits for the end of that store.
_PREFILL_S = 1.0
# After a store that was refused, so long none of its request is tried.
_REFUSED_S = 1.0


class _Request:
    """What is known of one request. `stored`: blocks that kvfs has, or has been told to store."""

    __slots__ = (
        "awaits", "block_tokens", "extras", "failed", "lease", "loaded", "loading", "local_blocks",
        "match", "offered", "pages", "request", "stored", "stores_from", "tokens",
    )  # fmt: skip

    def __init__(self, request, block_tokens: int, groups: int, epoch: str):
        self.request = request
        self.tokens = Growing(request.prompt_token_ids)
        self.extras = extras(request, block_tokens, epoch)
        self.pages = [Growing() for _ in range(groups)]
        self.match = None
        self.offered = 0  # blocks of the match that vLLM was told of
        self.local_blocks = 0  # blocks that vLLM had itself, when it asked
        self.lease = None
        self.loading: Load | None = None
        self.loaded = False  # and not scheduled since
        self.awaits = None  # until when
        if (getattr(request, "kv_transfer_params", None) or {}).get("do_remote_prefill"):
            self.awaits = time.monotonic() + _PREFILL_S
        self.failed = False
        self.stored = 0
        self.stores_from = 0.0  # when

    def known(self) -> int:
        """Tokens whose ids are known; the array is brought up to them."""
        count = self.request.num_tokens
        if count > len(self.tokens):
            self.tokens.extend(self.request.all_token_ids[len(self.tokens) : count])
        return count

    def release(self) -> None:
        if self.lease is not None:
            self.lease.release()
            self.lease = None


class Counts:
    """What happened since the last take(), for the engine's metrics."""

    __slots__ = ("failed_loads", "loads", "lost_stores", "stored", "tokens_dram", "tokens_lower")

    def __init__(self):
        for name in self.__slots__:
            setattr(self, name, 0)

    def take(self) -> dict[str, int]:
        taken = {name: count for name in self.__slots__ if (count := getattr(self, name))}
        self.__init__()
        return taken


class Scheduler:
    """Answers from the mapped index; asks the daemon only for leases.

    Page ids come and go as one sequence for each group. `null_page` stands where a group with a
    window has no page any more, or needs none.

    A lease holds what will be loaded from the moment vLLM has made room for it until the worker has
    it. Pages that a store still reads are no obstacle to vLLM: it frees and reuses them as it
    likes, and the step that reuses them tells the worker to end that store first (`Step.flush`).
    """

    def __init__(
        self,
        namespace,
        *,
        break_even=True,
        store_decode=True,
        images=True,
        forget_on_reset=True,
        null_page=0,
        events=None,
    ):
        self._namespace = namespace
        self._forget_on_reset = forget_on_reset
        self._images = images  # their identifiers say what is in them
        self._block_tokens = namespace.block_tokens
        windows = [group.window for group in namespace.geometry.groups]
        self._groups = len(windows)
        self._window = min((window for window in windows if window), default=0)
        self._null_page = null_page
        self._store_decode = store_decode
        self._requests: dict[str, _Request] = {}
        self._step = Step()
        self._jobs = itertools.count(1)
        # Which jobs read a page: several, where requests have it in common.
        self._reading: dict[int, tuple[int, ...]] = {}
        self._pages_of: dict[int, list[int]] = {}  # job -> its pages
        self._events = events  # events.Events, where somebody follows them
        self._storing: dict[int, tuple] = {}  # job -> its request, tokens, extras, for the events
        self._begun: list[tuple[float, int]] = []  # steps under way: when, prefill tokens
        self._last_output = 0.0
        self._epoch = ""
        self._usable = True
        self.counts = Counts()
        self.speeds = BreakEven(self._block_tokens) if break_even else None

    # ---- a request's life

    def add(self, request) -> None:
        """Reads the prompt once, outside the scheduling loop."""
        if cacheable(request, self._images):
            self._requests[request.request_id] = _Request(
                request, self._block_tokens, self._groups, self._epoch
            )

    def match(self, request, computed_tokens: int) -> int | None:
        """Tokens beyond `computed_tokens` that loading gives. No system call, nothing is held.

        None: ask again, another engine is about to store the rest of the prompt.
        """
        state = self._state(request)
        if state is None or state.failed or not self._usable:
            return 0
        if getattr(request, "skip_reading_prefix_cache", False):
            return 0
        known = state.known()
        if self._window:  # the last token is computed, and what its window needs must be there
            known = (known - 1) // self._block_tokens * self._block_tokens
        found = self._find(state, known)
        if state.awaits is not None and found < known // self._block_tokens:
            if time.monotonic() < state.awaits:
                return None
            state.awaits = None
        state.stored = found
        state.local_blocks = computed_tokens // self._block_tokens
        new = found - state.local_blocks
        if new > 0 and self.speeds is not None:
            in_dram = max(state.match.dram_blocks - state.local_blocks, 0)
            keep = self.speeds.worth(new, in_dram)
            if self._window and 0 < keep < new:  # a shorter prefix needs another window
                found = self._find(state, (state.local_blocks + keep) * self._block_tokens)
                keep = found - state.local_blocks
            new = keep
        if new <= 0:
            return 0
        state.offered = state.local_blocks + new
        return new * self._block_tokens

    def allocated(self, request, page_ids, external_tokens: int) -> None:
        """vLLM has made room: the prefix is held from here on, and loaded with the next step."""
        state = self._requests.get(request.request_id)
        if state is None or external_tokens <= 0:
            return
        end = state.offered
        first = end - external_tokens // self._block_tokens
        state.release()
        try:
            state.lease = self._namespace.acquire(state.match)
        except kvfs.Error as error:
            logger.debug("kvfs: no lease: %s", error)  # the worker's load fails, vLLM recomputes
        runs = []
        for ids in page_ids:
            self._reused(ids[first:])
            begin = first
            while begin < end and ids[begin] == self._null_page:
                begin += 1
            runs.append(Run(begin, Growing(ids[begin:end]).first(end - begin)))
        in_dram = min(max(state.match.dram_blocks - first, 0), end - first)
        state.loading = Load(request.request_id, state.match.key, tuple(runs), end - first, in_dram)
        self._step.loads.append(state.loading)

    def hit_tokens(self, request, external_tokens: int) -> tuple[int, int]:
        """Of a load's tokens, those from DRAM and those from below."""
        state = self._requests.get(request.request_id)
        if state is None or state.match is None:
            return 0, external_tokens
        first = state.offered * self._block_tokens - external_tokens
        in_dram = state.match.dram_blocks * self._block_tokens - first
        in_dram = min(max(in_dram, 0), external_tokens)
        return in_dram, external_tokens - in_dram

    def finished(self, request_id: str) -> None:
        """Finished or aborted: nothing is held for it any more; stores under way go on."""
        state = self._requests.pop(request_id, None)
        if state is not None:
            state.release()
            # Its load may have been told of, by a report that is on its way.
            if state.loaded or state.loading is not None:
                self._step.gone.add(request_id)

    # ---- a step

    def build(self, output) -> Step:
        """What the worker has to do in the step that `output` (a SchedulerOutput) describes."""
        prefill = 0
        for new in output.scheduled_new_reqs:
            scheduled = output.num_scheduled_tokens[new.req_id]
            prefill += scheduled if scheduled > 1 else 0
            self._scheduled(new.req_id, new.block_ids, True, new.num_computed_tokens, scheduled)
        cached = output.scheduled_cached_reqs
        resumed = cached.resumed_req_ids
        for request_id, ids, computed in zip(
            cached.req_ids, cached.new_block_ids, cached.num_computed_tokens, strict=True
        ):
            scheduled = output.num_scheduled_tokens[request_id]
            prefill += scheduled if scheduled > 1 else 0
            self._scheduled(request_id, ids or (), request_id in resumed, computed, scheduled)
        self._begun.append((time.perf_counter(), prefill))
        self._step.computes = bool(output.num_scheduled_tokens)
        step, self._step = self._step, Step()
        return step

    def learn(self, report: Report | None, loaded_requests) -> None:
        """What the worker says after a step, and which requests have their load behind them."""
        self._measure_prefill()
        report = report or Report()
        self._usable = self._usable and not report.unusable
        for request_id in report.failed:
            state = self._requests.get(request_id)
            if state is not None and not state.failed:  # each rank says so
                state.failed = True
                self.counts.failed_loads += 1
        for request_id in loaded_requests or ():
            state = self._requests.get(request_id)
            if state is not None:
                self._loaded(state)
        for job in report.stored:
            self._step.ended.append(job)
            self._read(job)
            if self._events is not None and job in self._storing:
                self._events.seen(*self._storing.pop(job))
        for request_id in report.lost:
            self.counts.lost_stores += 1
            if request_id in self._requests:
                self._requests[request_id].stored = 0
        for request_id in report.refused:
            if request_id in self._requests:
                self._requests[request_id].stores_from = time.monotonic() + _REFUSED_S
        for request_id in report.cut:
            if request_id in self._requests:
                self._requests[request_id].stored = sys.maxsize
        self.counts.stored += report.stored_blocks * self._block_tokens
        if self.speeds is not None:
            for load in report.loaded:
                self.speeds.loaded(load.blocks, load.dram_blocks, load.seconds)

    def reset(self) -> None:
        """What this engine has stored so far is not found by it any more: weights have changed."""
        if not self._forget_on_reset:
            return
        self._epoch = uuid.uuid4().hex
        for state in self._requests.values():
            state.release()
        self._requests.clear()
        self._storing.clear()
        if self._events is not None:
            self._events.reset()

    def close(self) -> None:
        for state in self._requests.values():
            state.release()
        self._requests.clear()

    # ---- inside

    def _find(self, state: _Request, tokens: int) -> int:
        """Sets state.match to the longest cached prefix of the first `tokens`; its blocks."""
        try:
            state.match = self._namespace.match(state.tokens.first(tokens), state.extras)
        except kvfs.Error as error:
            logger.debug("kvfs: no match: %s", error)
            state.match = None
            return 0
        return state.match.blocks

    def _loaded(self, state: _Request) -> None:
        state.release()
        load, state.loading = state.loading, None
        # Its next step is told of it. One that failed on some rank is computed instead: ranks that
        # told early end it first, and what they miss is nobody's.
        state.loaded = not state.failed
        if state.failed:
            self._step.gone.add(state.request.request_id)
        if load is not None and not state.failed:
            self.counts.loads += 1
            self.counts.tokens_dram += load.dram_blocks * self._block_tokens
            self.counts.tokens_lower += (load.blocks - load.dram_blocks) * self._block_tokens
            if self._events is not None:
                tokens = state.tokens.first(state.offered * self._block_tokens)
                self._events.seen(state.request, tokens, state.extras)

    def _state(self, request) -> _Request | None:
        state = self._requests.get(request.request_id)
        if state is None:
            self.add(request)
            state = self._requests.get(request.request_id)
        return state

    def _scheduled(self, request_id, page_ids, whole, computed, scheduled) -> None:
        """`page_ids`: all of the request's (`whole`), or those added to them."""
        kept = computed // self._block_tokens if whole else 0
        for ids in page_ids:
            self._reused(ids[kept:])
        state = self._requests.get(request_id)
        if state is None:
            return
        if state.loaded:
            state.loaded = False
            self._step.loaded.add(request_id)
        if whole:
            state.pages = [Growing(ids) for ids in page_ids]
        else:
            for pages, ids in zip(state.pages, page_ids, strict=False):
                pages.extend(ids)
        ready = computed + scheduled
        if not self._store_decode:
            ready = min(ready, state.request.num_prompt_tokens)
        if ready // self._block_tokens <= state.stored or not self._usable:
            return
        if state.stores_from > time.monotonic():
            return
        # A step may compute tokens that are drafts, or sampled by a step still under way.
        end = min(ready, state.known()) // self._block_tokens
        end = min(end, *map(len, state.pages))
        if end > state.stored and state.stored >= self._oldest_kept(computed):
            self._store(state, end)

    def _oldest_kept(self, computed: int) -> int:
        """The first block that has pages in all groups: vLLM frees what windows have passed."""
        if not self._window:
            return 0
        return max(computed - self._window + 1, 0) // self._block_tokens

    def _store(self, state: _Request, end: int) -> None:
        job = next(self._jobs)
        tokens = state.tokens.first(end * self._block_tokens)
        pages = tuple(of_group.first(end) for of_group in state.pages)
        first = state.stored
        state.stored = end
        read = [page for of_group in pages for page in of_group[first:].tolist()]
        self._pages_of[job] = read
        if self._events is not None:
            self._storing[job] = (state.request, tokens, state.extras)
        if self._reading.keys().isdisjoint(read):
            self._reading.update(dict.fromkeys(read, (job,)))
        else:
            for page in read:
                self._reading[page] = (*self._reading.get(page, ()), job)
        self._step.stores.append(
            Store(job, state.request.request_id, tokens, state.extras, first, pages)
        )

    def _read(self, job: int) -> None:
        """The job reads no page any more."""
        for page in self._pages_of.pop(job, ()):
            others = tuple(other for other in self._reading.get(page, ()) if other != job)
            if others:
                self._reading[page] = others
            else:
                self._reading.pop(page, None)

    def _reused(self, page_ids) -> None:
        if self._reading:
            for page in page_ids:
                self._step.flush.update(self._reading.get(page, ()))

    def _measure_prefill(self) -> None:
        """A step took from its beginning, or the end of the one before it, until now."""
        now = time.perf_counter()
        if self.speeds is not None and len(self._begun) <= 2 and self._begun:
            began, tokens = self._begun.pop(0)
            self.speeds.computed(tokens, now - max(began, self._last_output))
        else:
            self._begun.clear()  # steps without an output: which is whose is not known
        self._last_output = now
