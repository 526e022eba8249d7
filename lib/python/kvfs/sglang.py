"""SGLang's hierarchical cache on a mount, in the place of its `file` back end:

    python -m sglang.launch_server ... --enable-hierarchical-cache \\
        --hicache-mem-layout page_first --hicache-storage-backend dynamic \\
        --hicache-storage-backend-extra-config '{"backend_name": "kvfs",
            "module_path": "kvfs.sglang", "class_name": "KvfsStorage", "interface_v1": 1,
            "path": "/kv"}'

A page of SGLang is one value of kvfs.blobs, or one for each piece of it where its host pool keeps K
and V apart: then they are copied between the pool and the mount without a buffer in between. Keys
are SGLang's page hashes with the model's name, the rank and the sizes of its group, the pool's
dtype and layout; weights that changed under the same name need another mount or name. What kvfs
cannot do is a miss.
"""

from __future__ import annotations

import ctypes
import functools
import logging
from dataclasses import dataclass

import torch
from sglang.srt.mem_cache.hicache_storage import (
    HiCacheStorage,
    PoolHitPolicy,
    PoolName,
    PoolTransferResult,
)

from .blobs import Attempts, InParts, ManyBlobs
from .naming import short_name

logger = logging.getLogger(__name__)

# More pieces of a page than K and V are copied together into one value.
_MAX_PIECES = 2
# That copy the pages of one call.
_COPY_THREADS = 4


@dataclass(frozen=True)
class _Form:
    """Of a host pool's pages: whether they are copied from where they are, and the sizes of what
    is then stored."""

    direct: bool
    sizes: list[int]

    @staticmethod
    def of(host_pool) -> _Form:
        page_tokens = getattr(host_pool, "page_size", 1) or 1
        try:
            sizes = host_pool.get_page_buffer_meta(torch.arange(page_tokens))[1]
        except (AttributeError, NotImplementedError, ValueError):
            sizes = []
        if 0 < len(sizes) <= _MAX_PIECES:
            return _Form(True, list(sizes))
        page = host_pool.get_dummy_flat_data_page()
        return _Form(False, [page.numel() * page.element_size()])


class KvfsStorage(HiCacheStorage):
    """See the module. Needs `path`, the mount, in the extra configuration."""

    def __init__(self, storage_config, kwargs=None):
        extra = storage_config.extra_config or {}
        if not extra.get("path"):
            raise ValueError("kvfs: the storage back end's extra config needs path, the mount")
        model = storage_config.model_name or "model"
        name = f"sglang-{short_name(model)}".lower()
        self._blobs = ManyBlobs(extra["path"], name, f"sglang {model}")
        self._rank = _rank_of(storage_config)
        self._shared_rank = _rank_of(storage_config, tensor=not storage_config.is_mla_model)
        self._forms: dict[str, _Form] = {}
        self.registered_pools = {}
        self._attempt = Attempts("SGLang")
        self._copies = InParts(_COPY_THREADS, "kvfs-sglang")

    def register_mem_pool_host(self, mem_pool_host):
        super().register_mem_pool_host(mem_pool_host)
        self.registered_pools[PoolName.KV] = mem_pool_host

    # ---- pages in the host pool, by its indices: no buffers in between

    def batch_get_v1(self, keys, host_indices, extra_info=None):
        return self._pages(self._read, PoolName.KV, keys, host_indices)

    def batch_set_v1(self, keys, host_indices, extra_info=None):
        return self._pages(self._write, PoolName.KV, keys, host_indices)

    def batch_get_v2(self, transfers, extra_info=None):
        return {t.name: self._pages(self._read, t.name, t.keys, t.host_indices) for t in transfers}

    def batch_set_v2(self, transfers, extra_info=None):
        return {t.name: self._pages(self._write, t.name, t.keys, t.host_indices) for t in transfers}

    # ---- pages as tensors

    def get(self, key, target_location=None, target_sizes=None):
        size = target_location.numel() * target_location.element_size()
        buffer = _memory(target_location.data_ptr(), size)
        found = self._attempt(self._get, self._name(PoolName.KV, key), buffer)
        return target_location if found else None

    def batch_get(self, keys, target_locations=None, target_sizes=None):
        return [self.get(key, to) for key, to in zip(keys, target_locations, strict=True)]

    def set(self, key, value=None, target_location=None, target_sizes=None):
        value = value.contiguous()
        size = value.numel() * value.element_size()
        buffer = _memory(value.data_ptr(), size)
        return self._attempt(self._put, self._name(PoolName.KV, key), buffer) is not None

    def batch_set(self, keys, values=None, target_locations=None, target_sizes=None):
        return all(self.set(key, value) for key, value in zip(keys, values, strict=True))

    # ---- what is there

    def exists(self, key):
        return self._holds(PoolName.KV, key)

    def batch_exists(self, keys, extra_info=None):
        return self._leading(PoolName.KV, keys, len(keys))

    def batch_exists_v2(self, keys, pool_transfers=None, extra_info=None):
        pages = self._leading(PoolName.KV, keys, len(keys))
        hits = {PoolName.KV: pages} if pages else {}
        restorable = list(range(1, pages + 1))
        for transfer in pool_transfers or ():
            if not restorable:
                break
            there = self._restorable(transfer, keys, pages)
            if there:
                hits[transfer.name] = max(there)
            restorable = [count for count in restorable if count in there]
        return PoolTransferResult(restorable[-1] if restorable else 0, hits, restorable)

    def clear(self) -> bool:
        """Nothing: the mount evicts, and others may use what is there."""
        return False

    def close(self) -> None:
        self._copies.close()
        self._blobs.close()

    # ---- inside

    def _restorable(self, transfer, keys, pages: int) -> set[int]:
        """Lengths of a prefix whose pages of another pool are there as far as it needs them."""
        name = transfer.name
        if transfer.hit_policy == PoolHitPolicy.ALL_PAGES:
            return set(range(1, self._leading(name, keys, pages) + 1))
        if transfer.hit_policy != PoolHitPolicy.TRAILING_PAGES:
            return set()
        trailing = max(1, len(transfer.keys or ()))
        there = [self._holds(name, key) for key in keys[:pages]]
        return {end for end in range(1, pages + 1) if all(there[max(0, end - trailing) : end])}

    def _leading(self, pool, keys, pages: int) -> int:
        return next((i for i in range(pages) if not self._holds(pool, keys[i])), pages)

    def _holds(self, pool, key) -> bool:
        """A page's last piece is written last."""
        return bool(self._attempt(self._last_piece_is_there, pool, key))

    def _last_piece_is_there(self, pool, key) -> bool:
        sizes = self._form_of(pool).sizes
        return self._blobs.of(sizes[-1]).holds(self._name(pool, key, len(sizes) - 1))

    def _put(self, name: bytes, buffer) -> bool:
        return self._blobs.of(len(buffer)).put(name, buffer)

    def _get(self, name: bytes, buffer) -> bool:
        return self._blobs.of(len(buffer)).get(name, buffer)

    def _pages(self, work, pool, keys, host_indices) -> list[bool]:
        """One result for each key; what comes after the first failure counts for nothing."""
        keys = keys or ()
        host_pool = self.registered_pools[pool]
        page_tokens = getattr(host_pool, "page_size", 1) or 1
        if host_indices is None or len(host_indices) != len(keys) * page_tokens:
            logger.error("kvfs: %d pages of pool %s do not fit its indices", len(keys), pool)
            return [False] * len(keys)
        firsts = host_indices[::page_tokens].tolist()
        pieces = self._attempt(self._pieces, pool, host_pool, host_indices, len(keys))
        if pieces is None:
            return [False] * len(keys)
        rows = [(pool, host_pool, *row) for row in zip(keys, firsts, pieces, strict=True)]
        good = self._copies(functools.partial(self._attempt, work), rows)
        leading = next((number for number, one in enumerate(good) if not one), len(good))
        return [True] * leading + [False] * (len(good) - leading)

    def _read(self, pool, host_pool, key, first: int, pieces) -> bool:
        if pieces is not None:
            return all(
                self._get(self._name(pool, key, number), piece)
                for number, piece in enumerate(pieces)
            )
        page = host_pool.get_dummy_flat_data_page()
        buffer = _memory(page.data_ptr(), page.numel() * page.element_size())
        if not self._get(self._name(pool, key), buffer):
            return False
        host_pool.set_from_flat_data_page(first, page)
        return True

    def _write(self, pool, host_pool, key, first: int, pieces) -> bool:
        if pieces is None:
            page = host_pool.get_data_page(first, flat=True).contiguous()
            pieces = [_memory(page.data_ptr(), page.numel() * page.element_size())]
        for number, piece in enumerate(pieces):
            self._put(self._name(pool, key, number), piece)
        return True

    def _pieces(self, pool, host_pool, indices, pages: int) -> list:
        """Of each page its memory, where it is K and V, or one piece; None where it is in many."""
        form = self._form_of(pool)
        if not form.direct:
            return [None] * pages
        addresses, sizes = host_pool.get_page_buffer_meta(indices)  # a page's after another's
        memory = [_memory(a, s) for a, s in zip(addresses, sizes, strict=True)]
        each = len(form.sizes)
        if len(memory) != each * pages:
            raise ValueError(f"{pages} pages of pool {pool} are {len(memory)} pieces of memory")
        return [memory[page * each : (page + 1) * each] for page in range(pages)]

    def _form_of(self, pool) -> _Form:
        form = self._forms.get(pool)
        if form is None:
            form = self._forms[pool] = _Form.of(self.registered_pools[pool])
        return form

    def _name(self, pool, key, piece: int = 0) -> bytes:
        """All that decides a page's bytes; SGLang's hash is of the tokens alone."""
        rank = self._shared_rank if pool == PoolName.KV else self._rank
        host_pool = self.registered_pools[pool]
        form = f"{getattr(host_pool, 'dtype', '')} {getattr(host_pool, 'layout', '')}"
        return f"{rank} {pool} {piece} {form} {key}".encode()


def _rank_of(config, tensor: bool = True) -> str:
    """Which share of a page's bytes a process has, beside the model; MLA's is every rank's."""
    parts = [("pp", config.pp_rank, config.pp_size)]
    parts.append(("cp", config.attn_cp_rank, config.attn_cp_size))
    parts.append(("dcp", getattr(config, "dcp_rank", 0), getattr(config, "dcp_size", 1)))
    if tensor:
        parts.append(("tp", config.tp_rank, config.tp_size))
    return " ".join(f"{what}{rank}/{size}" for what, rank, size in parts)


def _memory(address: int, size: int):
    return _bytes_type(size).from_address(address)


@functools.cache
def _bytes_type(size: int):
    return ctypes.c_ubyte * size
