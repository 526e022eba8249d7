"""LMCache's second level on a mount, in the place of its `fs` adapter:

    lmcache server ... --l2-adapter '{"type": "plugin", "module_path": "kvfs.lmcache",
        "class_name": "KvfsL2Adapter", "adapter_params": {"path": "/kv"}}'

An object of LMCache is a value of kvfs.blobs under LMCache's own key (what that does not tell apart,
such as other weights of the same name, is not told apart here either): bounded by the mount's own tiers and evicted by them,
checked by checksum, shared with every server on the machine. Nothing here fails a request: what
kvfs cannot do is a miss.
"""

from __future__ import annotations

import functools
import logging
import math
import threading
from concurrent.futures import ThreadPoolExecutor

from lmcache.lmcache_native import Bitmap
from lmcache.v1.distributed.internal_api import L2StoreResult
from lmcache.v1.distributed.l2_adapters.base import L2AdapterInterface
from lmcache.v1.platform import create_event_notifier

from .blobs import Attempts, InParts, ManyBlobs
from .naming import short_name

logger = logging.getLogger(__name__)


class _Done:
    """Results of tasks of one kind, and the descriptor that tells of them."""

    def __init__(self):
        self.event = create_event_notifier()
        self._results: dict[int, object] = {}
        self._lock = threading.Lock()

    def put(self, task: int, result) -> None:
        with self._lock:
            self._results[task] = result
        self.event.notify()

    def pop(self, task: int):
        with self._lock:
            return self._results.pop(task, None)

    def pop_all(self) -> dict[int, object]:
        with self._lock:
            results, self._results = self._results, {}
        return results


class _Locked:
    """Leases of what LMCache has locked, by key; it may lock a key several times."""

    def __init__(self):
        self._leases: dict[bytes, list] = {}
        self._lock = threading.Lock()

    def add(self, key: bytes, lease) -> None:
        with self._lock:
            self._leases.setdefault(key, []).append(lease)

    def get(self, key: bytes):
        """A lease of the key, or None. Of several the first, which goes with the last lock: whoever
        loads holds one."""
        with self._lock:
            leases = self._leases.get(key)
            return leases[0] if leases else None

    def release(self, key: bytes) -> None:
        with self._lock:
            leases = self._leases.get(key)
            lease = leases.pop() if leases else None
            if not leases:
                self._leases.pop(key, None)
        if lease is not None:
            lease.release()

    def close(self) -> None:
        for key in list(self._leases):
            while key in self._leases:
                self.release(key)


class KvfsL2Adapter(L2AdapterInterface):
    """See the module. adapter_params: `path`, the mount; `threads` for tasks, and as
    many for their copies (4)."""

    def __init__(self, params: dict, l1_memory_desc=None):
        super().__init__()
        params = dict(params)
        self._mount = params.pop("path", None)
        threads = int(params.pop("threads", 4))
        if not self._mount or params:
            unknown = f"; not known: {', '.join(params)}" if params else ""
            raise ValueError(f"kvfs: adapter_params needs path, the mount{unknown}")
        self._models: dict[str, ManyBlobs] = {}
        self._locked = _Locked()
        self._stores, self._lookups, self._loads = _Done(), _Done(), _Done()
        self._threads = ThreadPoolExecutor(threads, "kvfs-l2")
        self._copies = InParts(threads, "kvfs-l2-copy")
        self._last_task = 0
        self._lock = threading.Lock()
        self._attempt = Attempts("LMCache")

    # ---- descriptors

    def get_store_event_fd(self) -> int:
        return self._stores.event.fileno()

    def get_lookup_and_lock_event_fd(self) -> int:
        return self._lookups.event.fileno()

    def get_load_event_fd(self) -> int:
        return self._loads.event.fileno()

    # ---- tasks

    def submit_store_task(self, keys, objects) -> int:
        return self._submit(self._stores, self._store, list(keys), list(objects))

    def pop_completed_store_tasks(self) -> dict:
        return self._stores.pop_all()

    def submit_lookup_and_lock_task(self, keys, group_layout_descs) -> int:
        return self._submit(self._lookups, self._look_up, list(keys), dict(group_layout_descs))

    def query_lookup_and_lock_result(self, task_id):
        return self._lookups.pop(task_id)

    def submit_unlock(self, keys) -> None:
        for key in keys:
            self._locked.release(_name_of(key))

    def submit_load_task(self, keys, objects) -> int:
        return self._submit(self._loads, self._load, list(keys), list(objects))

    def query_load_result(self, task_id):
        return self._loads.pop(task_id)

    # ---- the rest

    def report_status(self) -> dict:
        return {"is_healthy": self._attempt.healthy, "type": "kvfs", "mount": str(self._mount)}

    def close(self) -> None:
        self._threads.shutdown()
        self._copies.close()
        self._locked.close()
        for blobs in self._models.values():
            blobs.close()
        for done in (self._stores, self._lookups, self._loads):
            done.event.close()

    # ---- on the threads

    def _submit(self, done: _Done, work, keys, others) -> int:
        with self._lock:
            self._last_task += 1
            task = self._last_task
        self._threads.submit(self._run, done, task, work, keys, others)
        return task

    def _run(self, done: _Done, task: int, work, keys, others) -> None:
        """A task always ends with a result: LMCache waits for it."""
        try:
            result = work(keys, others)
        except Exception:
            logger.exception("kvfs: a task of %d keys failed", len(keys))
            result = L2StoreResult(False, 0) if done is self._stores else Bitmap(len(keys))
        done.put(task, result)

    def _each(self, call, keys, objects) -> list:
        """call(key, memory) of each; None where kvfs cannot."""
        rows = list(zip(keys, objects, strict=True))
        return self._copies(functools.partial(self._attempt, call), rows)

    def _store(self, keys, objects):
        stored, sizes = [], []
        results = self._each(self._put, keys, objects)
        for key, memory, new in zip(keys, objects, results, strict=True):
            if new:
                stored.append(key)
                sizes.append(len(memory.byte_array))
        if stored:
            self._notify_keys_stored(stored, sizes)
        good = None not in results
        return L2StoreResult(good, sum(sizes) if good else 0)

    def _look_up(self, keys, layouts):
        """One after the other: it is the interpreter that takes the time."""
        found = Bitmap(len(keys))
        sizes = {group: _bytes_of(layout) for group, layout in layouts.items()}
        for index, key in enumerate(keys):
            try:
                locked = self._attempt(self._lock_key, key, sizes.get(key.object_group_id))
            except Exception:  # what was locked before is told of, so that it is unlocked
                logger.exception("kvfs: a look-up of %d keys ended early", len(keys))
                break
            if locked:
                found.set(index)
        return found

    def _load(self, keys, objects):
        loaded, names = Bitmap(len(keys)), []
        for index, there in enumerate(self._each(self._get, keys, objects)):
            if there:
                loaded.set(index)
                names.append(keys[index])
        if names:
            self._notify_keys_accessed(names)
        return loaded

    def _put(self, key, memory) -> bool:
        buffer = memory.byte_array
        return self._blobs(key).of(len(buffer)).put(_name_of(key), buffer)

    def _get(self, key, memory) -> bool:
        """Out of what LMCache has locked: it has no need to be found again."""
        buffer, name = memory.byte_array, _name_of(key)
        blobs, lease = self._blobs(key).of(len(buffer)), self._locked.get(name)
        return blobs.get(name, buffer) if lease is None else blobs.load(lease, buffer)

    def _lock_key(self, key, size: int | None) -> bool:
        """LMCache says how large objects of the key's group are; else all known sizes are tried."""
        blobs, name = self._blobs(key), _name_of(key)
        for of_size in blobs.all() if size is None else [blobs.of(size)]:
            lease = of_size.hold(name)
            if lease is not None:
                self._locked.add(name, lease)
                return True
        return False

    def _blobs(self, key) -> ManyBlobs:
        with self._lock:
            model = key.model_name
            if model not in self._models:
                name = f"lmcache-{short_name(model)}".lower()
                self._models[model] = ManyBlobs(self._mount, name, f"lmcache {model}")
            return self._models[model]


def _name_of(key) -> bytes:
    """All that tells an object from others; no part can run into the next."""
    parts = (key.model_name, key.kv_rank, key.object_group_id, key.chunk_hash.hex(), key.cache_salt)
    return "@".join(map(str, parts)).encode()


def _bytes_of(layout) -> int:
    return sum(
        math.prod(shape) * dtype.itemsize
        for shape, dtype in zip(layout.shapes, layout.dtypes, strict=True)
    )
