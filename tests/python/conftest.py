"""Namespaces of a test's own on a real mount."""

import itertools

import kv_data
import kvfs
import pytest

_numbers = itertools.count()


@pytest.fixture
def make_namespace(daemon):
    """make_namespace(geometry, **open_options) -> an open Namespace, removed after the test."""
    opened = []

    def make(geometry=None, **options):
        geometry = geometry or kv_data.geometry()
        name = f"test-{next(_numbers)}"
        kvfs.create_namespace(daemon.mount, name, geometry)
        opened.append(kvfs.open(daemon.mount, name, geometry, **options))
        return opened[-1]

    yield make
    for namespace in opened:
        namespace.close()
        if daemon.alive():
            daemon.control({"op": "ns_remove", "name": namespace.name, "force": True})


@pytest.fixture
def namespace(make_namespace):
    return make_namespace()
