"""kvfs size: bytes of KV against sums done by hand."""

import json

import pytest

LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
LLAMA_TOKEN = 2 * 32 * 8 * 128 * 2


@pytest.fixture
def config(tmp_path):
    def write(content):
        path = tmp_path / "config.json"
        path.write_text(json.dumps(content))
        return path

    return write


def size_of(kvfs, config, content, *arguments):
    return kvfs("size", config(content), "--json", *arguments).json


def test_grouped_query_attention(kvfs, config):
    size = size_of(kvfs, config, LLAMA, "--tokens", "32k", "--batch", "4", "--fits", "dram=64GiB")
    assert size["bytes_per_token"] == LLAMA_TOKEN == 128 << 10
    assert size["block_bytes"] == 2 << 20
    assert size["request"]["engine_bytes"] == 4 * 32768 * LLAMA_TOKEN  # 2 B S L H D P
    assert size["fits"] == [
        {"tier": "dram", "bytes": 64 << 30, "tokens": 512 << 10, "prefixes": 16}
    ]


def test_packed(kvfs, config):
    raw = size_of(kvfs, config, LLAMA, "--tokens", "32k", "--fits", "dram=64GiB")
    size = size_of(
        kvfs, config, LLAMA, "--encoding", "packed", "--tokens", "32k", "--fits", "dram=64GiB"
    )
    assert size["block_bytes"] == raw["block_bytes"]
    assert size["request"]["engine_bytes"] == raw["request"]["engine_bytes"]
    assert size["slot_bytes"] == 380 * 4096
    assert size["ratio"] == raw["block_bytes"] / size["slot_bytes"]
    assert size["request"]["load_bytes"] == 2048 * 8 * 194176
    assert size["request"]["stored_bytes"] == 2048 * 380 * 4096
    assert size["fits"][0]["tokens"] == (64 << 30) // (380 * 4096) * 16
    assert "(1.35x)" in kvfs("size", config(LLAMA), "--encoding", "packed").out
    assert "(1.00x)" not in kvfs("size", config(LLAMA)).out
    half = LLAMA | {"torch_dtype": "float16"}
    assert "BF16" in kvfs.fails(2, "size", config(half), "--encoding", "packed")


def test_quantized(kvfs, config):
    raw = size_of(kvfs, config, LLAMA, "--tokens", "32k")
    for encoding in ("fp8", "int8"):
        size = size_of(kvfs, config, LLAMA, "--encoding", encoding, "--tokens", "32k")
        assert size["slot_bytes"] == 257 * 4096
        assert size["ratio"] == raw["block_bytes"] / size["slot_bytes"]
        assert size["request"]["load_bytes"] == 2048 * 8 * (512 + 131072)
        assert "(1.99x)" in kvfs("size", config(LLAMA), "--encoding", encoding).out


def test_multi_head_and_multi_query(kvfs, config):
    gpt2 = {"n_layer": 12, "n_head": 12, "n_embd": 768}
    size = size_of(kvfs, config, gpt2)
    assert size["bytes_per_token"] == 2 * 12 * 12 * 64 * 2
    assert "BF16 assumed" in size["notes"][0]
    falcon = {
        "num_hidden_layers": 32,
        "num_attention_heads": 71,
        "hidden_size": 4544,
        "multi_query": True,
        "torch_dtype": "float16",
    }
    assert size_of(kvfs, config, falcon)["bytes_per_token"] == 2 * 32 * 1 * 64 * 2


def test_latent_attention(kvfs, config):
    deepseek = {
        "num_hidden_layers": 61,
        "num_attention_heads": 128,
        "num_key_value_heads": 128,
        "hidden_size": 7168,
        "kv_lora_rank": 512,
        "qk_rope_head_dim": 64,
        "torch_dtype": "bfloat16",
    }
    size = size_of(kvfs, config, deepseek)
    assert size["bytes_per_token"] == 61 * (512 + 64) * 2
    assert size["groups"][0]["kv_factor"] == 1


def test_sliding_windows(kvfs, config):
    gemma = {
        "text_config": {
            "model_type": "gemma3_text",
            "num_hidden_layers": 26,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 256,
            "sliding_window": 512,
            "sliding_window_pattern": 6,
        },
        "torch_dtype": "bfloat16",
    }
    size = size_of(kvfs, config, gemma, "--tokens", "4096")
    groups = {group["window"]: group["layers"] for group in size["groups"]}
    assert groups == {512: 22, 0: 4}
    layer = 2 * 1 * 256 * 2
    assert size["request"]["engine_bytes"] == layer * (22 * 512 + 4 * 4096)
    # Every block of the windowed layers is stored: shorter prefixes end in them.
    assert size["request"]["stored_bytes"] == layer * 26 * 4096


def test_layer_types_and_recurrent_layers(kvfs, config):
    hybrid = {
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "sliding_window": 128,
        "dtype": "bfloat16",
        "layer_types": [
            "linear_attention",
            "sliding_attention",
            "linear_attention",
            "full_attention",
        ],
    }
    size = size_of(kvfs, config, hybrid)
    assert {group["window"]: group["layers"] for group in size["groups"]} == {128: 1, 0: 1}
    assert "2 of 4 layers keep a recurrent state" in size["notes"][0]


def test_windows_that_are_off(kvfs, config):
    qwen = LLAMA | {"sliding_window": 4096, "use_sliding_window": False, "max_window_layers": 28}
    assert [group["window"] for group in size_of(kvfs, config, qwen)["groups"]] == [0]
    qwen["use_sliding_window"] = True
    groups = {g["window"]: g["layers"] for g in size_of(kvfs, config, qwen)["groups"]}
    assert groups == {0: 28, 4096: 4}


def test_numbers_replace_the_configuration(kvfs, config):
    size = size_of(
        kvfs, config, LLAMA, "--dtype", "F8_E4M3", "--layers", "16", "--block-tokens", "64"
    )
    assert size["bytes_per_token"] == LLAMA_TOKEN // 4
    assert size["block_bytes"] == LLAMA_TOKEN // 4 * 64


def test_for_people(kvfs):
    done = kvfs(
        "size", "--layers", 32, "--kv-heads", 8, "--head-dim", 128, "-t", "1k", "--fits", "1GiB"
    )
    assert "128 KiB" in done.out
    assert "2 MiB" in done.out
    assert "8,192" in done.out
    assert "\x1b" not in done.out  # no colours into a pipe


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"hidden_size": 64}, "num_hidden_layers"),
        ({"num_hidden_layers": 2, "hidden_size": 64}, "num_attention_heads"),
        (LLAMA | {"is_encoder_decoder": True}, "encoder-decoder"),
        (LLAMA | {"torch_dtype": "complex64"}, "complex64"),
        (LLAMA | {"layer_types": ["full_attention"]}, "layer_types has 1 entries for 32 layers"),
        (LLAMA | {"layer_types": ["warp"] * 32}, "warp"),
        ([], "JSON object"),
    ],
)
def test_configurations_that_are_none(kvfs, config, content, words):
    assert words in kvfs.fails(2, "size", config(content))


def test_bad_options(kvfs, config, tmp_path):
    assert "not described" in kvfs.fails(2, "size")
    assert "cannot be opened" in kvfs.fails(3, "size", tmp_path / "none.json")
    assert "--layers" in kvfs.fails(2, "size", "--layers", "x")
    assert "not a size" in kvfs.fails(2, "size", config(LLAMA), "--fits", "3 parsecs")
    broken = tmp_path / "broken.json"
    broken.write_text('{"a": ')
    assert "is not JSON" in kvfs.fails(2, "size", broken)
