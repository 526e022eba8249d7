"""Namespaces on this folder's mount, and a stored prefix."""

from __future__ import annotations

import itertools

import pytest
from populate import Prefix, create_namespace, remove_namespace, store_prefix
from raw_client import Namespace

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
        remove_namespace(daemon, name)


@pytest.fixture
def ns(make_ns) -> Namespace:
    return make_ns()


@pytest.fixture
def prefix(ns) -> Prefix:
    """A stored prefix of 8 blocks."""
    return store_prefix(ns)
