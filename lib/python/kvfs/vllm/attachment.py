"""A namespace of a mount that may not be there yet."""

from __future__ import annotations

import hashlib
import logging
import threading

import kvfs

logger = logging.getLogger("vllm.kvfs")

_RETRY_S = 5.0


def open_namespace(mount: str, name: str, geometry: kvfs.Geometry, chosen: bool):
    """Opens it, made where it is missing.

    Where another geometry has the name, it is `name` and 8 digits of this geometry; unless
    somebody has `chosen` the name: then that is kvfs.Mismatch.
    """
    try:
        kvfs.create_namespace(mount, name, geometry)
    except kvfs.Mismatch:
        if chosen:
            raise
        name = f"{name}-{hashlib.sha256(repr(geometry).encode()).hexdigest()[:8]}"
        kvfs.create_namespace(mount, name, geometry)
    return kvfs.open(mount, name, geometry)


class Attachment:
    """Calls `ready(namespace)` once it is open: at once, or when the mount has come.

    With `required`, what hinders it is raised instead.
    """

    def __init__(self, mount, name, geometry, ready, *, chosen=False, required=False):
        self._open = lambda: open_namespace(mount, name, geometry, chosen)
        self._ready = ready
        self._ended = threading.Event()
        try:
            ready(self._open())
        except kvfs.Error as error:
            if required:
                raise
            logger.warning("kvfs: going on without cache until %s is there: %s", mount, error)
            threading.Thread(target=self._retry, name="kvfs-attach", daemon=True).start()

    def close(self) -> None:
        self._ended.set()

    def _retry(self) -> None:
        while not self._ended.wait(_RETRY_S):
            try:
                namespace = self._open()
            except kvfs.Error as error:
                logger.debug("kvfs: %s", error)
            else:
                self._ready(namespace)
                logger.warning("kvfs: attached to %s/%s", namespace.mount, namespace.name)
                return
