"""Prefixes as files: read by what knows nothing of kvfs, copied out, copied in."""

import errno
import json
import shutil
from pathlib import Path

import kv_data
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file


@pytest.fixture
def stored(make_namespace):
    """(namespace, tokens, kv, path of the file)."""
    namespace = make_namespace(kv_data.geometry("float16"))
    tokens = kv_data.random_tokens(80, seed=51)
    kv = kv_data.random_kv(namespace.geometry, 80, 51)
    key = kv_data.store(namespace, tokens, kv).key
    return namespace, tokens, kv, Path(namespace.path(key))


def test_the_file_is_where_path_says(stored):
    namespace, tokens, _, path = stored
    assert path.exists()
    assert namespace.path(namespace.match(tokens)) == str(path)


def test_stock_safetensors_reads_it(stored):
    namespace, tokens, kv, path = stored
    with safe_open(path, framework="np") as file:
        assert np.array_equal(file.get_tensor("tokens"), tokens)
        read = file.get_tensor("kv")
        metadata = file.metadata()
    assert read.dtype == np.float16
    expected = kv_data.canonical(namespace.geometry, kv)
    assert np.array_equal(read.view(np.uint16), expected)
    assert json.loads(metadata["geometry"])["model"] == namespace.geometry.model
    assert metadata["key"] == path.stem


def test_stock_safetensors_maps_it_for_torch(stored):
    namespace, _, kv, path = stored
    read = load_file(path)["kv"]
    assert tuple(read.shape) == kv_data.canonical(namespace.geometry, kv).shape


def test_every_shorter_prefix_opens_by_its_key(stored):
    namespace, tokens, _, _ = stored
    shorter = namespace.match(tokens[:33])
    with safe_open(namespace.path(shorter), framework="np") as file:
        assert np.array_equal(file.get_tensor("tokens"), tokens[:32])


def test_export_and_import_between_two_stores(stored, make_daemon, tmp_path):
    import kvfs

    namespace, tokens, kv, path = stored
    shutil.copyfile(path, tmp_path / path.name)
    other = make_daemon(dram="64MiB", nvme=None)
    kvfs.create_namespace(str(other.mount), "imported", namespace.geometry)
    with kvfs.open(str(other.mount), "imported") as target:
        assert not target.match(tokens)
        shutil.copyfile(tmp_path / path.name, other.mount / "imported" / path.name)
        match = target.match(tokens)
        assert (match.blocks, match.key) == (5, path.stem)
        assert np.array_equal(kv_data.load(target, match), kv)


def test_a_flipped_bit_is_refused(stored, make_daemon):
    import kvfs

    namespace, tokens, _, path = stored
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    other = make_daemon(dram="64MiB", nvme=None)
    kvfs.create_namespace(str(other.mount), "refused", namespace.geometry)
    with pytest.raises(OSError, match="Invalid argument") as caught:
        (other.mount / "refused" / path.name).write_bytes(content)
    assert caught.value.errno == errno.EINVAL
    with kvfs.open(str(other.mount), "refused") as target:
        assert not target.match(tokens)


def test_a_file_cannot_be_changed(stored):
    _, _, _, path = stored
    with pytest.raises(PermissionError):
        path.open("r+b")


def test_removing_the_file_evicts(stored):
    namespace, tokens, _, path = stored
    path.unlink()
    assert namespace.acquire(path.stem) is None
    assert namespace.match(tokens).blocks < 5
