"""A namespace of a mount that may not be there yet."""

from __future__ import annotations

import logging
import threading

import kvfs
from kvfs.naming import open_namespace

logger = logging.getLogger("vllm.kvfs")

_RETRY_S = 5.0


class Attachment:
    """Calls `ready(namespace)` once it is open: at once, or when the mount has come.

    With `required`, what hinders it is raised instead.
    """

    def __init__(self, mount, name, geometry, ready, *, chosen=False, required=False):
        self._open = lambda: open_namespace(mount, name, geometry, chosen=chosen)
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
