"""Calls on files of plain directories."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

from raw_client import expect_errno


def refused(number: int, call, *arguments, **named) -> None:
    with expect_errno(number):
        call(*arguments, **named)


def below(daemon, path: Path) -> Path:
    """The file below, where the daemon keeps it."""
    return Path(f"{daemon.disk}.plain/files") / path.relative_to(daemon.mount)


def direct_write(path: Path, content: bytes) -> None:
    """As engines' file back ends write: O_DIRECT, in one piece, from aligned memory."""
    memory = mmap.mmap(-1, len(content))
    memory.write(content)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_DIRECT, 0o644)
    try:
        assert os.write(descriptor, memory) == len(content)
    finally:
        os.close(descriptor)


def direct_read(path: Path, size: int) -> bytes:
    memory = mmap.mmap(-1, size)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        assert os.readv(descriptor, [memory]) == size
        return bytes(memory)
    finally:
        os.close(descriptor)


def drop_page_cache(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def rename_noreplace(old: Path, new: Path) -> int:
    """renameat2(2) with RENAME_NOREPLACE: errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    at_cwd = -100
    if libc.renameat2(at_cwd, os.fsencode(old), at_cwd, os.fsencode(new), 1) == 0:
        return 0
    return ctypes.get_errno()
