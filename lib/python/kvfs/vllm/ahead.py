"""kvfs's DRAM, mapped and pinned before the first request. No vLLM import."""

from __future__ import annotations

import logging
import threading

import kvfs

logger = logging.getLogger("vllm.kvfs")


class MapAhead:
    """Behind the engine's start, for its device, the one of `pointer`: what the namespace has, and
    what it is provided with for what will be stored (Namespace.map_slabs). Where it fails slabs are
    mapped as they are used."""

    def __init__(self, namespace: kvfs.Namespace, pointer: int, provide: int | None):
        self._thread = threading.Thread(
            target=self._map, args=(namespace, pointer, provide), name="kvfs-ahead", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._thread.join()

    def _map(self, namespace: kvfs.Namespace, pointer: int, provide: int | None) -> None:
        try:
            logger.info("kvfs: %d bytes of DRAM mapped", namespace.map_slabs(pointer, provide))
        except (kvfs.Error, ValueError) as error:  # ValueError: it was closed
            logger.warning("kvfs: DRAM is mapped as it is used: %s", error)
