import doctest

import kvfs
import numpy as np
import pytest
import torch


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        ("bfloat16", "BF16"),
        ("F8_E5M2", "F8_E5M2"),
        (np.float32, "F32"),
        (np.dtype("float16"), "F16"),
        (torch.bfloat16, "BF16"),
        (torch.float8_e4m3fn, "F8_E4M3"),
    ],
)
def test_dtype_is_known_by_any_library_s_name(dtype, name):
    assert kvfs.Geometry("m", dtype, kvfs.Group(1, 1, 8)).dtype == name


def test_dtype_that_is_not_stored_is_named():
    with pytest.raises(ValueError, match="complex64 is not one that kvfs stores: float32, float16"):
        kvfs.Geometry("m", np.complex64, kvfs.Group(1, 1, 8))


def test_block_bytes():
    llama = kvfs.Geometry("llama-3.1-8b", torch.bfloat16, kvfs.Group(32, 8, 128))
    assert llama.block_bytes() == 2 * 1024**2


def test_groups_is_one_or_several():
    full, window = kvfs.Group(4, 1, 64), kvfs.Group(20, 1, 64, window=512)
    assert kvfs.Geometry("m", "float16", full).groups == (full,)
    assert kvfs.Geometry("m", "float16", [full, window]).groups == (full, window)
    with pytest.raises(TypeError, match=r"kvfs\.Group or several"):
        kvfs.Geometry("m", "float16", 3)


@pytest.mark.parametrize("module", ["geometry", "layout"])
def test_examples_in_docstrings(module):
    result = doctest.testmod(getattr(__import__(f"kvfs.{module}"), module))
    assert result.attempted > 0
    assert result.failed == 0
