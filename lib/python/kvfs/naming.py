"""Namespaces that are made by themselves: their names, and whose they are."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from ._core import create_namespace, open
from .errors import Mismatch, NotFound, PermissionDenied


def short_name(model: str) -> str:
    """The part of a model's id or path that a person calls it by, fit for a directory's name.

    >>> short_name("meta-llama/Llama-3.1-8B"), short_name("/models/my model/")
    ('Llama-3.1-8B', 'my-model')
    """
    last = Path(model).name or "model"
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-.") or "model"


def open_namespace(mount, name: str, geometry, *, chosen: bool = False):
    """Opens it, made where it is missing: that is for the daemon's user, others need it there.

    Where another geometry has the name, it is `name` and 8 digits of this geometry; unless
    somebody has `chosen` the name: then that is kvfs.Mismatch.
    """
    try:
        return _made(mount, name, geometry)
    except Mismatch:
        if chosen:
            raise
        digits = hashlib.sha256(repr(geometry).encode()).hexdigest()[:8]
        return _made(mount, f"{name}-{digits}", geometry)


def _made(mount, name: str, geometry):
    try:
        create_namespace(mount, name, geometry)
    except PermissionDenied as refused:
        try:
            return open(mount, name, geometry)
        except NotFound:
            raise PermissionDenied(
                f"there is no namespace {name} on {mount}, and only the daemon's user may make it "
                f"(kvfs ns create {name} --uid USER --gid GROUP ...)"
            ) from refused
    return open(mount, name, geometry)
