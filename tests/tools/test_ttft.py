"""tools/benchmarks/ttft.py on a CPU: rows as promised, and rows that say what did not come back. Its
times are not judged: they are of a GPU."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

kvfs = pytest.importorskip("kvfs")
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
BENCHMARKS = Path(__file__).parent.parent.parent / "tools/benchmarks"
sys.path.insert(0, str(BENCHMARKS))
ttft, ttft_encoding, ttft_engine = map(
    importlib.import_module, ("ttft", "ttft_encoding", "ttft_engine")
)

TOKENS = 1024
STORED = {"fp8": torch.float8_e4m3fn, "int8": torch.int8}
SMALL = [
    "--shape=tiny",
    "--device=cpu",
    "--gpu=cpu:64MiB",
    "--dram=64MiB",
    "--nvme-size=128MiB",
    "--warm-up=0",
]
FEW = ["--rounds=1", "--cold-rounds=1", "--nvme-rounds=1"]


def quantized(numbers, encoding):
    """What PyTorch makes of blocks [blocks, heads, tokens, dim] in BF16, rounded once."""
    most = ttft_encoding.LARGEST[encoding]
    scale = numbers.float().abs().amax((-2, -1), keepdim=True) / most
    scaled = (numbers.float() / scale).clamp(-most, most)
    whole = scaled.round() if encoding == "int8" else scaled
    return (whole.to(STORED[encoding]).float() * scale).bfloat16()


@pytest.mark.parametrize("encoding", STORED)
def test_rounding_is_what_the_encoding_promises(encoding):
    torch.manual_seed(1)
    numbers = (
        torch.randn(64, 2, 16, 128) * torch.logspace(-8, 8, 64)[:, None, None, None]
    ).bfloat16()
    stored = numbers.transpose(0, 1).flatten(1, 2)[None]  # as an engine has them
    loaded = quantized(numbers, encoding).transpose(0, 1).flatten(1, 2)[None]
    found = ttft_encoding.compare([loaded], [stored], encoding, 16)
    assert found["kv_within_rounding"] is True
    off = (loaded.float() - stored.float()).abs()
    assert found["kv_largest_deviation"] == off.max().item() > 0
    for wrong in (float("nan"), stored[0, 0, 5, 5].item() * 1.5, 0.0):
        broken = loaded.clone()
        place = stored[0, 0, 5].abs().argmax()
        broken[0, 0, 5, place] = wrong
        assert not ttft_encoding.compare([broken], [stored], encoding, 16)["kv_within_rounding"]


def test_a_bit_is_a_difference():
    stored = torch.zeros(1, 2, 16, 64, dtype=torch.bfloat16)
    assert ttft_encoding.compare([stored.clone()], [stored], "packed", 16)["kv_identical"]
    assert not ttft_encoding.compare([-stored], [stored], "packed", 16)["kv_identical"]


def test_targets():
    of = ttft_encoding.targets
    assert of("llama-3.1-8b", 32768, "gpu", 0.87, 5) == {"target": 1 / 1.15, "met": True}
    assert of("llama-3.1-8b", 32768, "gpu", 0.86, 50)["met"] is False
    assert of("llama-3.1-8b", 32768, "raw", 1.0, 10.9)["met"] is False
    assert of("llama-3.1-8b", 32768, "raw", 0.9, 20)["met"] is False
    assert of("llama-3.1-8b", 131072, "fp8", 0.1, 35) == {"speedup_target": 35, "met": True}
    assert of("llama-3.1-8b", 131072, "packed", 2.0, 27.9)["met"] is False
    assert of("llama-3.1-8b", 8192, "packed", 2.0, 27.9) == {}


def test_rows_of_every_encoding(bin_dir, tmp_path):
    command = [sys.executable, BENCHMARKS / "ttft.py", f"--bin={bin_dir}", f"--nvme={tmp_path}"]
    command += [*SMALL, *FEW, "--tokens", str(TOKENS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    rows = {row["bench"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert list(rows) == [
        "ttft_1k",
        "ttft_1k_gpu",
        "ttft_1k_nvme",
        "ttft_1k_packed",
        "ttft_1k_fp8",
        "ttft_1k_int8",
    ]
    assert len({row["cold"] for row in rows.values()}) == 1
    for name, row in rows.items():
        assert row["cached_tokens"] == TOKENS
        assert row["speedup"] == pytest.approx(row["cold"] / row["value"], rel=0.01)
        exact = not name.endswith("8")
        assert row.get("kv_identical", False) is exact
        assert row.get("kv_within_rounding", False) is not exact
        assert (row["logits_difference"] == 0) is exact
    assert rows["ttft_1k_packed"]["unpackable_blocks"] == 0
    assert rows["ttft_1k"]["met"] == (rows["ttft_1k"]["ratio"] >= rows["ttft_1k"]["target"])
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def run(bin_dir, tmp_path):
    options = ttft.options([f"--bin={bin_dir}", f"--nvme={tmp_path}", *SMALL, *FEW])
    daemon = ttft.Daemon(options)
    try:
        daemon.start()
        yield ttft.Run(ttft_engine.Engine(options.shape, options.device, TOKENS), daemon, options)
    finally:
        daemon.remove()


@pytest.mark.parametrize("fitting", [0, 512])
def test_what_does_not_pack_is_computed_and_said(run, capsys, fitting):
    """Tokens from 512 on embed as zeros: V of the first layer is 0 in one channel for some tokens and
    a number for others, and exponents so far apart are more than packed blocks have room for."""
    engine = run.engine
    half = engine.config.vocab_size // 2
    with torch.no_grad():
        engine.model.get_input_embeddings().weight[half:] = 0
    torch.manual_seed(1)
    ids = torch.randint(1, engine.config.vocab_size, (TOKENS + 1,))
    ids[:fitting] %= half
    prompt = ttft.Prompt(engine, ids)
    run.encoding(prompt, run.compute(prompt), "packed", ["dram"])
    row = json.loads(capsys.readouterr().out)
    assert row["cached_tokens"] == fitting
    assert row["unpackable_blocks"] == (TOKENS - fitting) // 16
    assert row["kv_identical"] is True
    assert row["math_identical"] is False
    assert 0 <= row["logits_difference"] < 0.1
