"""What a kvfs.Pages takes and refuses, before anything is copied."""

import gc
import weakref

import kvfs
import numpy as np
import pytest
import torch


@pytest.mark.parametrize(
    ("layout", "complaint"),
    [
        ("kv pages tokens head dim", "'head' is no axis"),
        ("tokens tokens dim", "'tokens' is there twice"),
        ("kv pages heads dim", "the tokens axis is missing"),
        ("kv tokens heads", "the dim axis is missing"),
    ],
)
def test_bad_layouts_are_named(layout, complaint):
    with pytest.raises(ValueError, match=complaint):
        kvfs.Pages([np.zeros((2, 2, 2, 2, 2))], layout)


def test_layers_or_keys_and_values():
    tensor = np.zeros((4, 2, 8), np.float32)
    for arguments in ({}, {"layers": [tensor], "keys": [tensor]}, {"keys": [tensor]}):
        with pytest.raises(ValueError, match="either layers, or both keys and values"):
            kvfs.Pages(layout="tokens heads dim", **arguments)
    with pytest.raises(ValueError, match="1 keys, but 2 values"):
        kvfs.Pages(keys=[tensor], values=[tensor, tensor], layout="tokens heads dim")
    with pytest.raises(ValueError, match="keys and values have no kv axis"):
        kvfs.Pages(keys=[tensor], values=[tensor], layout="kv tokens dim")


def test_tensors_must_be_alike():
    first = np.zeros((4, 2, 8), np.float32)
    others = (
        np.zeros((5, 2, 8), np.float32),
        np.zeros((4, 2, 8), np.float64),
        np.zeros((4, 2, 16), np.float32)[:, :, ::2],
    )
    for other in others:
        with pytest.raises(ValueError, match="tensor 1 differs from the first"):
            kvfs.Pages([first, other], "tokens heads dim")
    with pytest.raises(ValueError, match="names more axes than a tensor has: 3"):
        kvfs.Pages([first], "kv tokens heads dim")
    with pytest.raises(ValueError, match="no tensors were given"):
        kvfs.Pages([], "tokens heads dim")


def test_dim_must_be_contiguous():
    with pytest.raises(ValueError, match="dim axis must be contiguous: its stride is 8 bytes"):
        kvfs.Pages([np.zeros((4, 2, 16), np.float32)[:, :, ::2]], "tokens heads dim")


def test_what_has_no_memory_is_refused():
    with pytest.raises(ValueError, match="tensor 0 gives no memory"):
        kvfs.Pages([object()], "tokens dim")


def test_read_only_memory_is_known():
    array = np.zeros((4, 2, 8), np.float32)
    assert kvfs.Pages([array], "tokens heads dim").writable
    array.flags.writeable = False
    assert not kvfs.Pages([array], "tokens heads dim").writable


def test_extents():
    pages = kvfs.Pages([torch.zeros(2, 100, 16, 4, 64)] * 3, "kv pages tokens heads dim")
    assert (pages.layers, pages.pages, pages.tokens, pages.heads) == (3, 100, 16, 4)
    keys = [torch.zeros(1, 4, 128, 64) for _ in range(5)]
    pages = kvfs.Pages(keys=keys, values=keys, layout="1 heads tokens dim")
    assert (pages.layers, pages.pages, pages.tokens, pages.heads) == (5, 0, 128, 4)


def test_tensors_live_as_long_as_pages():
    array = np.zeros((4, 2, 8), np.float32)
    alive = weakref.ref(array)
    pages = kvfs.Pages([array], "tokens heads dim")
    del array
    gc.collect()
    assert alive() is not None
    del pages
    gc.collect()
    assert alive() is None
