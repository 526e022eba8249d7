"""Caches of transformers: a small random model, a real mount."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import kvfs.transformers  # noqa: E402


def make_model(seed, **more):
    config = transformers.LlamaConfig(
        vocab_size=100,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        name_or_path="tests/Tiny-Llama",
        **more,
    )
    torch.manual_seed(seed)
    return transformers.LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def model():
    return make_model(seed=1)


@pytest.fixture(scope="module")
def prompt():
    torch.manual_seed(2)
    return torch.randint(3, 100, (1, 70))


def generate(model, prompt, cache):
    return model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        past_key_values=cache,
        max_new_tokens=20,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )


def test_what_was_saved_is_loaded_and_continues_the_same(daemon, model, prompt):
    cache = kvfs.transformers.load(daemon.mount, model, prompt)
    assert cache.get_seq_length() == 0
    output = generate(model, prompt, cache)
    assert kvfs.transformers.save(daemon.mount, model, output, cache) == 80  # of 89 in the cache

    loaded = kvfs.transformers.load(daemon.mount, model, prompt)
    assert loaded.get_seq_length() == 64
    for mine, theirs in zip(loaded.layers, cache.layers, strict=True):
        assert torch.equal(mine.keys, theirs.keys[:, :, :64])
        assert torch.equal(mine.values, theirs.values[:, :, :64])
    assert torch.equal(generate(model, prompt, loaded), output)
    assert kvfs.transformers.load(daemon.mount, model, output).get_seq_length() == 80
    assert (daemon.mount / "tiny-llama-float32").is_dir()


def test_a_token_is_left_to_compute(daemon, model, prompt):
    cache = transformers.DynamicCache()
    generate(model, prompt, cache)
    kvfs.transformers.save(daemon.mount, model, prompt, cache)
    exact = prompt[:, :64]
    assert kvfs.transformers.load(daemon.mount, model, exact).get_seq_length() == 48


def test_other_weights_and_other_identities_are_other_caches(daemon, model, prompt):
    cache = transformers.DynamicCache()
    generate(model, prompt, cache)
    kvfs.transformers.save(daemon.mount, model, prompt, cache, identity="adapter")
    mine = kvfs.transformers.load(daemon.mount, model, prompt, identity="adapter")
    assert mine.get_seq_length() == 64
    other = make_model(seed=3)
    for model_, identity in ((model, "another adapter"), (other, "adapter")):
        found = kvfs.transformers.load(daemon.mount, model_, prompt, identity=identity)
        assert found.get_seq_length() == 0


def test_what_cannot_be_kept_is_refused(daemon, model, prompt):
    with pytest.raises(ValueError, match="one sequence"):
        kvfs.transformers.load(daemon.mount, model, prompt.repeat(2, 1))
    short = transformers.DynamicCache()
    short.update(torch.zeros(1, 2, 16, 8), torch.zeros(1, 2, 16, 8), 0)
    with pytest.raises(ValueError, match="1 layers, the model 3"):
        kvfs.transformers.save(daemon.mount, model, prompt, short)
    wide = transformers.DynamicCache()
    for layer in range(3):
        wide.update(torch.zeros(2, 2, 16, 8), torch.zeros(2, 2, 16, 8), layer)
    with pytest.raises(ValueError, match="shape"):
        kvfs.transformers.save(daemon.mount, model, prompt, wide)
    windows = make_model(seed=1)
    windows.config.layer_types = ["sliding_attention"] * 3
    with pytest.raises(ValueError, match="sliding_attention"):
        kvfs.transformers.load(daemon.mount, windows, prompt)
