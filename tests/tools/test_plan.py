"""kvfs plan: load or recompute, against the formulas."""

import json
import math

MODEL = ["--layers", 32, "--kv-heads", 8, "--head-dim", 128]  # 128 KiB a token
GIVEN = ["--link", "50GB/s", "--disk", "5GB/s"]
TOKEN = 128 << 10


def plan(kvfs, *arguments, status=0):
    return kvfs("plan", *MODEL, *arguments, "--json", status=status).json


def tiers(result):
    return {tier["tier"]: tier for tier in result["tiers"]}


def test_break_even_of_a_constant_speed(kvfs):
    result = plan(kvfs, *GIVEN, "--prefill-speed", 30000)
    nvme = tiers(result)["nvme"]
    gain = 1 / 30000 - TOKEN / 5e9
    tokens = nvme["latency_seconds"] / gain
    assert nvme["break_even_tokens"] == math.ceil(tokens / 16) * 16
    assert nvme["bytes_per_second"] == 5e9


def test_a_disk_slower_than_prefill_never_pays_but_attention_grows(kvfs):
    slow = ["--link", "50GB/s", "--disk", "1GB/s"]
    result = plan(kvfs, *slow, "--prefill-speed", 30000)
    assert tiers(result)["nvme"]["break_even_tokens"] is None
    # Measured at two lengths, prefill has a quadratic part, and long prompts pay even so.
    quadratic = plan(kvfs, *slow, "--prefill", "8192:213ms", "--prefill", "131072:10.313s")
    tokens = tiers(quadratic)["nvme"]["break_even_tokens"]
    prefill = quadratic["prefill"]
    cost = prefill["seconds_per_token"] * tokens + prefill["seconds_per_token_squared"] * tokens**2
    load = tiers(quadratic)["nvme"]["latency_seconds"] + tokens * TOKEN / 1e9
    assert load <= cost < load * 1.01


def test_an_encoding_moves_fewer_bytes(kvfs):
    def seconds(*encoding):
        given = [*GIVEN, "--prefill-speed", 30000, "--lengths", "32k", *encoding]
        nvme = tiers(plan(kvfs, *given))["nvme"]
        return nvme["lengths"][0]["load_seconds"] - nvme["latency_seconds"]

    raw = seconds()
    assert math.isclose(raw, 32768 * TOKEN / 5e9, rel_tol=1e-6)
    assert math.isclose(raw / seconds("--encoding", "packed"), 1.35, rel_tol=0.01)
    assert math.isclose(raw / seconds("--encoding", "fp8"), 2, rel_tol=0.01)


def test_fit_goes_through_two_measurements(kvfs):
    prefill = plan(kvfs, *GIVEN, "--prefill", "8192:0.213", "--prefill", "131072:10.313")["prefill"]
    a, b = prefill["seconds_per_token"], prefill["seconds_per_token_squared"]
    assert math.isclose(a * 8192 + b * 8192**2, 0.213, rel_tol=1e-6)
    assert math.isclose(a * 131072 + b * 131072**2, 10.313, rel_tol=1e-6)


def test_model_flops(kvfs):
    prefill = plan(kvfs, *GIVEN, "--params", "8B", "--flops", "400T", "--attention-width", 4096)[
        "prefill"
    ]
    assert math.isclose(prefill["seconds_per_token"], 2 * 8e9 / 400e12)
    assert math.isclose(prefill["seconds_per_token_squared"], 2 * 32 * 4096 / 400e12)


def test_nothing_pays_is_exit_code_1(kvfs):
    slow = ["--link", "1MB/s", "--disk", "1MB/s", "--prefill-speed", 30000]
    result = plan(kvfs, *slow, status=1)
    assert all(tier["break_even_tokens"] is None for tier in result["tiers"])
    assert all(row["choose"] == "recompute" for tier in result["tiers"] for row in tier["lengths"])


def test_sliding_windows_are_loaded_up_to_their_size(kvfs, tmp_path):
    """The shape of Gemma 3 27B: 52 of 62 layers have a window of 1,024 tokens."""
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps(
            {
                "model_type": "gemma3_text", "num_hidden_layers": 62, "num_key_value_heads": 16,
                "num_attention_heads": 32, "head_dim": 128, "hidden_size": 5376,
                "sliding_window": 1024, "sliding_window_pattern": 6, "torch_dtype": "bfloat16",
            }
        )
    )  # fmt: skip
    result = kvfs(
        "plan", config, "--disk", "2GB/s", "--link", "2GB/s", "--prefill-speed", 5000,
        "--lengths", "1k", "--lengths", "2k", "--lengths", "8k", "--json",
    ).json  # fmt: skip
    for tier in result["tiers"]:
        assert 1024 < tier["break_even_tokens"] < 8192
        for row in tier["lengths"]:
            assert (row["choose"] == "load") is (row["tokens"] >= tier["break_even_tokens"])


def test_this_machine_is_measured(kvfs, tmp_path_factory):
    directory = tmp_path_factory.mktemp("disk")
    result = plan(kvfs, "--dir", directory, "--prefill-speed", 1, "--lengths", "1k,4k")
    for tier in result["tiers"]:
        assert tier["source"].startswith("measured")
        assert tier["bytes_per_second"] > 1e6
        assert [row["tokens"] for row in tier["lengths"]] == [1024, 4096]
    assert list(directory.iterdir()) == []


def test_bad_options(kvfs):
    assert "in one way" in kvfs.fails(2, "plan", *MODEL, *GIVEN)
    assert "in one way" in kvfs.fails(2, "plan", *MODEL, "--prefill-speed", 1, "--params", "8B")
    assert "TOKENS:SECONDS" in kvfs.fails(2, "plan", *MODEL, *GIVEN, "--prefill", "8192")
    assert "belong together" in kvfs.fails(2, "plan", *MODEL, *GIVEN, "--params", "8B")
    assert "no directory" in kvfs.fails(
        3, "plan", *MODEL, "--prefill-speed", 1, "--dir", "/nowhere"
    )


def test_figures_of_tools_bench_stand_for_measurements(kvfs, tmp_path):
    rows = [
        {"bench": "cpu_load", "value": 20},
        {"bench": "gpu_load_1block", "value": 118, "unit": "us"},
        {"bench": "gpu_load", "value": 51.5},
        {"bench": "gpu_load_1gib", "value": 54},
        {"bench": "gpu_load_batch_copy_1gib", "value": 60},
        {"bench": "gpu_nvme", "value": 1.5},
        {"bench": "nvme_promote", "value": 2.5},
        {"bench": "ttft_8k", "value": 40, "cold": 250},
        {"bench": "ttft_32k", "value": 110, "cold": 1400},
    ]
    file = tmp_path / "bench.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = plan(kvfs, "--bench", file)
    dram, nvme = tiers(result)["dram"], tiers(result)["nvme"]
    assert dram["bytes_per_second"] == 54e9
    assert math.isclose(dram["latency_seconds"], 118e-6)
    assert nvme["bytes_per_second"] == 1.5e9
    assert "gpu_nvme" in nvme["source"]
    prefill = result["prefill"]
    a, b = prefill["seconds_per_token"], prefill["seconds_per_token_squared"]
    assert math.isclose(a * 8193 + b * 8193**2, 0.25, rel_tol=1e-6)
    # What is said on the command line counts.
    given = plan(kvfs, "--bench", file, *GIVEN, "--prefill-speed", 30000)
    assert tiers(given)["dram"]["bytes_per_second"] == 50e9
    assert tiers(given)["nvme"]["bytes_per_second"] == 5e9
    assert math.isclose(given["prefill"]["seconds_per_token"], 1 / 30000)


def test_a_bench_file_that_is_none_is_refused(kvfs, tmp_path):
    file = tmp_path / "bench.jsonl"
    file.write_text('{"bench": "gpu_load", "value": 50}\nnot JSON\n')
    arguments = ["plan", *MODEL, "--prefill-speed", 30000, "--bench", file]
    assert f"{file}, line 2" in kvfs.fails(2, *arguments)
    file.write_text('{"bench": "match_32k_1k", "value": 20}\n')
    assert "tools/bench" in kvfs.fails(2, *arguments)
