"""Namespaces on this folder's mount, and a stored prefix."""

from __future__ import annotations

import itertools
import time

import pytest
from populate import Prefix, create_namespace, store_prefix
from raw_client import ControlError, Namespace, control

_numbers = itertools.count()


@pytest.fixture
def make_ns(daemon):
    """make_ns(geometry, uid=..., gid=..., mode=...): a Namespace that is removed after the test."""
    made: list[tuple[str, Namespace]] = []

    def make(geometry: dict | None = None, **owner: int) -> Namespace:
        name = f"ns-{next(_numbers)}"
        made.append((name, create_namespace(daemon, name, geometry, **owner)))
        return made[-1][1]

    yield make
    for name, namespace in made:
        namespace.close()
        remove_namespace(f"{daemon.mount}/.kvfs/control", name)


def remove_namespace(store_control: str, name: str) -> None:
    """What a test has closed the kernel releases a moment later: until then it is busy."""
    give_up = time.monotonic() + 20
    while True:
        try:
            control(store_control, op="ns_remove", name=name, force=True)
            return
        except ControlError as error:
            if error.code != "busy" or time.monotonic() > give_up:
                raise
            time.sleep(0.01)


@pytest.fixture
def ns(make_ns) -> Namespace:
    return make_ns()


@pytest.fixture
def prefix(ns) -> Prefix:
    """A stored prefix of 8 blocks."""
    return store_prefix(ns)
