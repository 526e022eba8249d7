"""What the connector makes of vLLM's own classes and configurations, without an engine."""

from types import SimpleNamespace

import pytest
import torch
import vllm.device_allocator
from kvfs.vllm import connector, model, versions
from vllm.v1 import kv_cache_interface as interface


def config_of(path, rope=None, max_model_len=4096):
    hf = {"hidden_size": 64, "rope_parameters": rope or {"rope_type": "default"}}
    return SimpleNamespace(
        model_config=SimpleNamespace(
            hf_config=SimpleNamespace(to_dict=lambda: dict(hf)),
            quantization=None,
            dtype=torch.bfloat16,
            model=str(path),
            max_model_len=max_model_len,
        ),
        cache_config=SimpleNamespace(cache_dtype="auto"),
        load_config=SimpleNamespace(load_format="auto"),
    )


@pytest.fixture
def weights(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(16 << 20))
    return file


@pytest.mark.parametrize("place", [0, 5 << 20, (16 << 20) - 1])
def test_other_weights_are_another_model(weights, place):
    before = model.fingerprint(config_of(weights.parent), [])
    assert model.fingerprint(config_of(weights.parent), []) == before
    with weights.open("r+b") as file:
        file.seek(max(place - (1 << 15), 0))
        file.write(b"x" * (1 << 16))
    assert model.fingerprint(config_of(weights.parent), []) != before


def test_long_ropes_factors_are_another_model(weights):
    def of(max_model_len, kind):
        rope = {"rope_type": kind, "original_max_position_embeddings": 4096}
        return model.fingerprint(config_of(weights.parent, rope, max_model_len), [])

    assert of(4096, "longrope") == of(2048, "longrope") != of(8192, "longrope")
    assert of(8192, "longrope") == of(131072, "longrope")
    assert of(4096, "yarn") == of(8192, "yarn")


def test_only_kv_that_a_prefix_alone_decides_is_stored():
    sizes = {"block_size": 16, "num_kv_heads": 2, "head_size": 64, "dtype": torch.bfloat16}
    full = interface.FullAttentionSpec(**sizes)
    assert versions.kv_factor(full) == 2
    assert versions.kv_factor(interface.SlidingWindowSpec(**sizes, sliding_window=64)) == 2
    assert versions.kv_factor(interface.MLAAttentionSpec(**sizes | {"num_kv_heads": 1})) == 1
    assert versions.kv_factor(interface.FullAttentionSpec(**sizes, non_causal=True)) is None

    class Other(interface.FullAttentionSpec):
        pass

    assert versions.kv_factor(Other(**sizes)) is None


def test_images_that_vllm_does_not_hash_are_not_named():
    def named(cache_gb, prefix_caching):
        multimodal = SimpleNamespace(mm_processor_cache_gb=cache_gb)
        return versions.images_are_named_by_content(
            SimpleNamespace(
                model_config=SimpleNamespace(multimodal_config=multimodal),
                cache_config=SimpleNamespace(enable_prefix_caching=prefix_caching),
            )
        )

    assert named(4, False) and named(0, True) and named(4, True)
    assert not named(0, False)


class Allocator:
    def __init__(self):
        self.taken = []

    def sleep(self, tags=None):
        self.taken.append(("sleep", tags))

    def discard(self, tags):
        self.taken.append(("discard", tags))


def test_whatever_takes_memory_waits_for_what_uses_it(monkeypatch):
    allocator = Allocator()
    monkeypatch.setattr(vllm.device_allocator, "get_mem_allocator_instance", lambda: allocator)

    class Connector:
        def settle(self):
            allocator.taken.append("settled")

    connectors = [Connector(), Connector()]
    sleeping = SimpleNamespace(model_config=SimpleNamespace(enable_sleep_mode=True))
    pooled = SimpleNamespace(model_config=SimpleNamespace(enable_cumem_allocator=True))
    for config, one in zip((sleeping, pooled), connectors, strict=True):
        versions.settle_before_sleep(config, one)
    allocator.sleep("weights")
    allocator.discard(("kv_cache",))
    both = ["settled"] * 2
    assert allocator.taken == [*both, ("sleep", "weights"), *both, ("discard", ("kv_cache",))]
    allocator.taken.clear()
    connectors.clear()  # engines that are gone are not kept
    del one
    allocator.sleep()
    assert allocator.taken == [("sleep", None)]


def test_without_a_pool_nothing_is_taken(monkeypatch):
    monkeypatch.delattr(vllm.device_allocator, "get_mem_allocator_instance")
    versions.settle_before_sleep(SimpleNamespace(model_config=SimpleNamespace()), object())


def test_dram_in_the_configuration_is_a_number_of_gib():
    assert connector._dram_bytes(None) is None
    assert connector._dram_bytes(0) == 0
    assert connector._dram_bytes(1.5) == 3 << 29
    for wrong in (-1, True, "8GiB", 1 << 20, float("nan")):
        with pytest.raises(ValueError, match="dram_gib"):
            connector._dram_bytes(wrong)
