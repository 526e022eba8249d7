"""Caches of transformers on a real mount; tests/engines has a real model's generate()."""

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import kvfs.transformers  # noqa: E402

LAYERS, HEADS, DIM = 3, 2, 8


class Model(torch.nn.Module):
    """What load() and save() look at of a model: configuration, dtype, device and weights."""

    dtype = torch.float32
    device = torch.device("cpu")

    def __init__(self, seed=1, **more):
        super().__init__()
        self.config = transformers.PreTrainedConfig(
            hidden_size=32,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            num_key_value_heads=HEADS,
            name_or_path="tests/Tiny-Llama",
            **more,
        )
        torch.manual_seed(seed)
        self.projection = torch.nn.Linear(32, 32)


@pytest.fixture(scope="module")
def model():
    return Model()


@pytest.fixture(scope="module")
def tokens():
    torch.manual_seed(2)
    return torch.randint(3, 100, (1, 90))


def full_cache(length, layers=LAYERS, batch=1):
    cache = transformers.DynamicCache()
    for layer in range(layers):
        cache.update(*torch.rand(2, batch, HEADS, length, DIM), layer)
    return cache


def test_what_was_saved_is_loaded(daemon, model, tokens):
    assert kvfs.transformers.load(daemon.mount, model, tokens).get_seq_length() == 0
    cache = full_cache(89)  # the last token that is generated is not in the cache
    assert kvfs.transformers.save(daemon.mount, model, tokens, cache) == 80
    for given, length in ((tokens, 80), (tokens[0, :70], 64), (tokens[0, :70].tolist(), 64)):
        loaded = kvfs.transformers.load(daemon.mount, model, given)
        assert loaded.get_seq_length() == length
        for mine, theirs in zip(loaded.layers, cache.layers, strict=True):
            assert torch.equal(mine.keys, theirs.keys[:, :, :length])
            assert torch.equal(mine.values, theirs.values[:, :, :length])
    assert (daemon.mount / "tiny-llama-float32").is_dir()


def test_an_encoding_has_caches_of_its_own(daemon, model, tokens):
    cache = full_cache(89)
    assert kvfs.transformers.save(daemon.mount, model, tokens, cache, encoding="int8") == 80
    loaded = kvfs.transformers.load(daemon.mount, model, tokens, encoding="int8")
    for mine, theirs in zip(loaded.layers, cache.layers, strict=True):
        assert not torch.equal(mine.keys, theirs.keys[:, :, :80])
        torch.testing.assert_close(mine.keys, theirs.keys[:, :, :80], rtol=0, atol=1 / 250)
    assert (daemon.mount / "tiny-llama-float32-int8").is_dir()
    assert kvfs.transformers.load(daemon.mount, model, tokens, encoding="fp8").get_seq_length() == 0


def test_a_token_is_left_to_compute(daemon, model, tokens):
    kvfs.transformers.save(daemon.mount, model, tokens, full_cache(89))
    exact = tokens[:, :64]
    assert kvfs.transformers.load(daemon.mount, model, exact).get_seq_length() == 48


def test_other_weights_and_other_identities_are_other_caches(daemon, model, tokens):
    kvfs.transformers.save(daemon.mount, model, tokens, full_cache(89), identity="adapter")
    mine = kvfs.transformers.load(daemon.mount, model, tokens, identity="adapter")
    assert mine.get_seq_length() == 80
    for other, identity in ((model, "another adapter"), (Model(seed=3), "adapter")):
        found = kvfs.transformers.load(daemon.mount, other, tokens, identity=identity)
        assert found.get_seq_length() == 0


def test_what_cannot_be_kept_is_refused(daemon, model, tokens):
    def save(cache):
        kvfs.transformers.save(daemon.mount, model, tokens, cache)

    with pytest.raises(ValueError, match="one sequence"):
        kvfs.transformers.load(daemon.mount, model, tokens.repeat(2, 1))
    with pytest.raises(ValueError, match="1 layers, the model 3"):
        save(full_cache(16, layers=1))
    with pytest.raises(ValueError, match="shape"):
        save(full_cache(16, batch=2))
    with pytest.raises(ValueError, match="not plain ones: SimpleNamespace"):
        save(SimpleNamespace(layers=[SimpleNamespace(keys=None)] * LAYERS))
    windows = Model()
    windows.config.layer_types = ["sliding_attention"] * LAYERS
    with pytest.raises(ValueError, match="sliding_attention"):
        kvfs.transformers.load(daemon.mount, windows, tokens)
    dynamic = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    for rope in (dynamic, {"full_attention": dynamic}):
        longer = Model()
        longer.config.rope_parameters = rope
        with pytest.raises(ValueError, match="rope_type dynamic"):
            kvfs.transformers.load(daemon.mount, longer, tokens)
