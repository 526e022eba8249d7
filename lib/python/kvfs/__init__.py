"""Cached KV of language models, as files that load at memory speed.

A namespace of a mounted kvfs holds the prefixes of one model. match() says how much of a prompt is
cached, acquire() holds it, load() copies it to where the engine wants it; reserve(), store() and
commit() publish what the engine computed. Tensors are numpy, torch or anything with DLPack or the
buffer protocol, and are read and written in place.

    kvfs.create_namespace("/kv", "smollm2", geometry)
    with kvfs.open("/kv", "smollm2") as ns:
        pages = kvfs.Pages(layers, "kv pages tokens heads dim")
        if lease := ns.acquire(tokens):
            with lease:
                lease.load(pages, page_table=table)
        ...                                   # the engine computes the rest
        with ns.reserve(tokens) as reservation:
            reservation.store(pages, page_table=table)
            reservation.commit()
"""

from ._core import (
    Commit,
    Lease,
    Match,
    Namespace,
    Reservation,
    Transfer,
    __version__,
    as_int32,
    create_namespace,
    open,
)
from .errors import (
    Busy,
    Corrupt,
    Error,
    Exists,
    Forked,
    InputOutput,
    Invalid,
    Mismatch,
    NoSpace,
    NotFound,
    PermissionDenied,
    Timeout,
    Unavailable,
)
from .geometry import Geometry, Group
from .layout import Pages

__all__ = [
    "Busy",
    "Commit",
    "Corrupt",
    "Error",
    "Exists",
    "Forked",
    "Geometry",
    "Group",
    "InputOutput",
    "Invalid",
    "Lease",
    "Match",
    "Mismatch",
    "Namespace",
    "NoSpace",
    "NotFound",
    "Pages",
    "PermissionDenied",
    "Reservation",
    "Timeout",
    "Transfer",
    "Unavailable",
    "__version__",
    "as_int32",
    "create_namespace",
    "open",
]
