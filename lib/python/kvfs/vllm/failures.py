"""Warnings of failures, that do not fill a log."""

from __future__ import annotations

import logging

logger = logging.getLogger("vllm.kvfs")


class Failures:
    """The first time, and then ever more rarely: a daemon that is gone fails every request."""

    def __init__(self):
        self._count = 0

    def warn(self, message: str, *values) -> None:
        self._count += 1
        level = logging.WARNING if self._count & (self._count - 1) == 0 else logging.DEBUG
        logger.log(level, "kvfs: " + message, *values)
