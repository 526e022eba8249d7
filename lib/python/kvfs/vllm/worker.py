"""The worker's side: copies between the engine's pages and kvfs. No vLLM import."""

from __future__ import annotations

import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor

import kvfs

from .ahead import MapAhead
from .failures import Failures
from .loading import HeadStart, Loading
from .messages import Load, Loaded, Report, Step
from .stores import LeadingStores

logger = logging.getLogger("vllm.kvfs")


# Waited for at a time, each in a thread: more than libkvfs has under way, so that none waits for
# another one's end.
_MOST_LOADS = 64


class Unattached:
    """In a Worker's place while there is no namespace, or `for_good`: every load fails, and on the
    rank that `leads` the others in storing every store has ended."""

    def __init__(self):
        self.leads = True
        self.for_good = False
        self._failed: list[Load] = []
        self._report = Report()

    def flush(self, step: Step) -> None:
        pass

    def load(self, step: Step, stream: int = 0) -> None:
        self._failed += step.loads
        self._report.failed += [load.request_id for load in step.loads]
        self._report.unusable = self.for_good

    def store(self, step: Step, stream: int = 0) -> None:
        self._report.unusable = self.for_good
        if not self.leads:  # it knows nothing of the stores that may be under way
            return
        self._report.stored += [store.job for store in step.stores]
        refused = [store.request_id for store in step.stores]
        self._report.lost += refused
        self._report.refused += refused

    def wait_layer(self, layer_name: str) -> None:
        pass

    def wait_layers(self) -> None:
        pass

    def settle(self) -> None:
        pass

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
    its tokens, and a store that fails is a later miss. (But see Loading.wait_layers.) `pages`: of
    each group, the heads that this process has. `layers`: the names of the first group's, in order,
    where the engine's steps ask for them one by one (wait_layer): then a request may go on before
    its load has ended. `provide`: as in Namespace.map_slabs.
    """

    def __init__(
        self, namespace, pages, stores=None, *, layers=(), provide=None, load_timeout_s=10.0
    ):
        self._namespace = namespace
        self._pages = pages
        self._timeout = load_timeout_s
        self._layers = {name: index for index, name in enumerate(layers)}
        self._loads: list[Loading] = []
        self._arriving: list[Loading] = []  # whose requests were told of as loaded
        self._gone: set[str] = set()  # requests that nobody wants, whose loads are under way
        self._idle = True  # nothing is computed in this step
        self._head_start = HeadStart()
        self._finished: set[str] = set()
        self._failed: list[Load] = []
        self._report = Report()
        self._failures = Failures()
        self._stores = stores or LeadingStores(namespace, pages, self._failures)
        self._clocks = ThreadPoolExecutor(_MOST_LOADS, "kvfs-load")
        self._ahead = MapAhead(namespace, pages[0].pointer, provide)

    def flush(self, step: Step) -> None:
        """Before the step writes to pages: ends stores that read them, and loads whose request has
        not its first step here. Where that is gone, its pages may be another one's."""
        self._stores.flush(step)
        self._idle = not step.computes
        self._gone |= step.gone
        for loading in [one for one in self._arriving if one.load.request_id in self._gone]:
            self._arriving.remove(loading)
            with contextlib.suppress(kvfs.Error):  # nobody wants it
                loading.end()
        strange = any(one.load.request_id not in step.loaded for one in self._arriving)
        if strange and (step.computes or step.loads):
            self.wait_layers()

    def load(self, step: Step, stream: int = 0) -> None:
        for load in step.loads:
            try:
                self._begin(load, stream)
            except (kvfs.Error, ValueError) as error:
                self._load_failed(load, error)

    def wait_layer(self, layer_name: str) -> None:
        """Within the forward, before this layer reads its KV."""
        index = self._layers.get(layer_name)
        if not self._arriving or index is None:
            return
        for loading in self._arriving:
            loading.wait_layers(index + 1)
        if index + 1 == len(self._layers):
            self._arrived()

    def wait_layers(self) -> None:
        """Before a forward that does not ask for its layers one by one."""
        for loading in self._arriving:
            loading.wait()
        self._arrived()

    def store(self, step: Step, stream: int = 0) -> None:
        """After the forward that computes them was launched on `stream`."""
        self._stores.begin(step, stream)

    def settle(self) -> None:
        """Returns when nothing reads or writes pages any more: before their memory goes, between
        two steps. Loads and stores have ended, of which the next steps tell."""
        self._stores.settle()
        for loading in (*self._loads, *self._arriving):
            with contextlib.suppress(kvfs.Error):  # poll() finds it, too
                loading.end()

    def poll(self) -> tuple[set[str], list[Load]]:
        """Requests that may go on, and the loads that failed, since the last call."""
        under_way = []
        alone = self._idle and len(self._loads) == 1
        for loading in self._loads:
            if loading.done:
                self._load_ended(loading)
            elif loading.load.request_id not in self._gone and loading.nearly_done(alone):
                self._finished.add(loading.load.request_id)
                self._arriving.append(loading)
            else:
                under_way.append(loading)
        self._loads = under_way
        self._gone &= {loading.load.request_id for loading in under_way}
        finished, self._finished = self._finished, set()
        failed, self._failed = self._failed, []
        return finished, failed

    def report(self) -> Report:
        self._stores.report(self._report)
        report, self._report = self._report, Report()
        return report

    def close(self) -> None:
        """Ends what is under way; stores that wait are finished, so that a run's end is kept."""
        self._clocks.shutdown()
        self._loads.clear()
        self._arriving.clear()
        self._stores.close()
        self._ahead.close()

    # ---- inside

    def _begin(self, load: Load, stream: int) -> None:
        loading = Loading(
            self._namespace,
            self._pages,
            load,
            stream=stream,
            timeout=self._timeout,
            head_start=self._head_start if self._layers else None,
            clocks=self._clocks,
        )
        self._loads.append(loading)

    def _arrived(self) -> None:
        """All layers of what was arriving are there."""
        if len(self._arriving) == 1:
            self._arriving[0].learn()
        for loading in self._arriving:
            with contextlib.suppress(kvfs.Error):  # it was loaded again
                self._loaded(loading)
        self._arriving.clear()

    def _load_ended(self, loading: Loading) -> None:
        try:
            self._loaded(loading)
        except kvfs.Error as error:
            self._load_failed(loading.load, error)
        else:
            self._finished.add(loading.load.request_id)

    def _loaded(self, loading: Loading) -> None:
        load = loading.load
        self._report.loaded.append(Loaded(load.blocks, load.dram_blocks, loading.end()))

    def _load_failed(self, load: Load, error: Exception) -> None:
        self._failures.warn("load of %d blocks failed, they are computed: %s", load.blocks, error)
        self._finished.add(load.request_id)
        self._failed.append(load)
        self._report.failed.append(load.request_id)
