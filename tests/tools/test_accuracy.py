"""tools/benchmarks/accuracy.py: what goes through the store is the KV that the model goes on from."""

import importlib
import sys
from pathlib import Path

import pytest

pytest.importorskip("kvfs")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
sys.path.insert(0, str(Path(__file__).parent.parent.parent / "tools/benchmarks"))
accuracy, ttft_encoding = map(importlib.import_module, ("accuracy", "ttft_encoding"))

TOKENS, WINDOW = 100, 40
STORED = 96  # of TOKENS, in full blocks
KINDS = ["sliding_attention", "full_attention", "sliding_attention"]


@pytest.fixture(scope="module")
def model():
    config = transformers.Gemma3TextConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=len(KINDS),
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=64,
        sliding_window=WINDOW,
        layer_types=KINDS,
    )
    torch.manual_seed(1)
    return transformers.Gemma3ForCausalLM(config).eval()


@pytest.mark.parametrize("encoding", ["raw", "fp8"])
def test_windows_are_a_group_of_their_own(daemon, model, encoding):
    prompts = [torch.randint(0, 64, (TOKENS + 1,)).tolist() for _ in range(2)]
    reference = accuracy.Continuations(model, prompts, steps=4)
    stored = accuracy.Stored(daemon.mount, model, encoding)
    assert [group.window for group in stored.namespace.geometry.groups] == [0, WINDOW]
    back = stored.through(reference.tokens[:, :-1], reference.kv)
    for kind, pair, pair_back in zip(KINDS, reference.kv, back, strict=True):
        # Of a window, only the blocks that reach into it are loaded.
        begin = 0 if kind == "full_attention" else (STORED - WINDOW) // 16 * 16
        for was, now in zip(pair, pair_back, strict=True):
            assert torch.equal(was[:, :, :begin], now[:, :, :begin])
            assert torch.equal(was[:, :, STORED:], now[:, :, STORED:])
            loaded = ([t[:, :, begin:STORED] for t in ts] for ts in ([now], [was]))
            result = ttft_encoding.compare(*loaded, encoding, 16)
            assert result.get("kv_identical", result.get("kv_within_rounding")) is True
            assert torch.equal(was, now) is (encoding == "raw")
    score = accuracy.Score()
    score.add(reference, back)
    row = score.row(encoding, stored.ratio())
    assert (row["continuations"], row["tokens"]) == (2, 8)
    assert (row["logits_largest_deviation"] == 0) is (encoding == "raw")
    if encoding == "raw":
        assert row["equal_continuations"] == row["equal_next_tokens"] == 1
