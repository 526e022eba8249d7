"""Time to the first token with a real forward pass: computed, and loaded from kvfs.

    PYTHONPATH=... python3 tools/benchmarks/ttft.py --bin build/static/bin --nvme /var/tmp/ttft

A model of a known shape with random weights (they do not change the time) runs in transformers. Its
KV of N tokens is computed once and stored; then it is found, leased and loaded into the engine's
memory, and one token more is computed. One JSON object a line:

    bench, value, unit   "ttft_32k": match + lease + load + the one-token forward, milliseconds;
                         "ttft_32k_nvme": the same out of a daemon that has just been restarted
    limit, ratio         bytes / the link's speed (one large pinned copy) + that forward; limit/value
    target, met          of the ratio; not for NVMe, where the disk is the limit (gpu_nvme)
    torch                the same KV by torch: pinned tensors of each layer, copy_(non_blocking)
    cold, speedup        prefill of N + 1 tokens in one piece, and how many times longer that takes
    match, lease, load   match and lease are parts of `value`, and so is the load until its last
                         layer had arrived; layers are computed from when they are there
    forward              the one-token forward once more; link: GB/s of that copy; both in each round
    store                gather and DMA out, and commit
    kv_identical         the KV loaded is, bit by bit, the KV stored
    logits_identical     the logits after it are, bit by bit, those before the store
    logits_difference    the largest difference of one of them
    repeatable           those are the same each time when computed again from the same KV
    math_identical       as logits_identical, with attention by plain matrix products, whose sums
                         always have the same order; the fast kernels' need not

Figures are medians of --rounds, and of --nvme-rounds from disk. Needs torch, transformers, the
package kvfs, and root for the mount.
"""

import argparse
import inspect
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import kvfs
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM
from transformers.cache_utils import DynamicLayer

BLOCK_TOKENS = 16
REPEATS = 4  # of a forward whose logits are compared
LEAST_RATIO = 1 / 1.05
FLUSH_SECONDS = 300
WARM_UP_SECONDS = 30
# The KV's argument of forward(): "cache" from transformers 5.24 on, "past_key_values" before.
CACHE = "cache"
if CACHE not in inspect.signature(LlamaForCausalLM.forward).parameters:
    CACHE = "past_key_values"
SHAPES = {
    "llama-3.1-8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
    # 10 of its 80 layers: the ratio of prefill to load is that of one layer.
    "llama-3.1-70b-10-layers": {
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 10,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
    "tiny": {
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 1024,
    },
}


class EngineLayer(DynamicLayer):
    """A layer of KV in memory that is there before the prompt is, as in a serving engine."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: str):
        super().__init__()
        self.dtype, self.device, self.is_initialized = dtype, device, True
        self.all_keys = torch.empty(shape, dtype=dtype, device=device)
        self.all_values = torch.empty_like(self.all_keys)
        self.set_length(0)

    def set_length(self, tokens: int) -> None:
        self.length = tokens
        self.keys, self.values = self.all_keys[:, :, :tokens], self.all_values[:, :, :tokens]

    def update(self, key_states, value_states, *_args, **_kwargs):
        end = self.length + key_states.shape[-2]
        self.all_keys[:, :, self.length : end] = key_states
        self.all_values[:, :, self.length : end] = value_states
        self.set_length(end)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.length


class Engine:
    def __init__(self, shape: str, device: str, max_tokens: int):
        self.device = device
        self.config = LlamaConfig(
            **SHAPES[shape], max_position_embeddings=max_tokens + BLOCK_TOKENS, rope_theta=500000.0
        )
        dtype = torch.bfloat16
        torch.manual_seed(1)
        torch.set_default_dtype(dtype)
        with torch.device(device):
            self.model = LlamaForCausalLM(self.config).eval()
        torch.set_default_dtype(torch.float32)
        c = self.config
        layer_shape = (1, c.num_key_value_heads, max_tokens + BLOCK_TOKENS, c.head_dim)
        self.cache = DynamicCache()
        self.cache.layer_class_to_replicate = None
        self.cache.layers = [
            EngineLayer(layer_shape, dtype, device) for _ in range(c.num_hidden_layers)
        ]
        group = kvfs.Group(c.num_hidden_layers, c.num_key_value_heads, c.head_dim)
        self.geometry = kvfs.Geometry(shape, dtype, group, block_tokens=BLOCK_TOKENS)
        self.pages = kvfs.Pages(
            keys=[layer.all_keys for layer in self.cache.layers],
            values=[layer.all_values for layer in self.cache.layers],
            layout="1 heads tokens dim",
        )
        for index, layer in enumerate(self.model.model.layers):
            layer.register_forward_pre_hook(lambda *_, index=index: self.before_layer(index))
        self.loading: kvfs.Transfer | None = None

    def synchronize(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()

    def stream(self) -> int:
        return 0 if self.device == "cpu" else torch.cuda.current_stream().cuda_stream

    def before_layer(self, index: int) -> None:
        if self.loading is not None:
            self.loading.wait_layers(index + 1)
            self.arrived = time.perf_counter()

    @torch.inference_mode()
    def forward(
        self, ids: torch.Tensor, after: int, loading: kvfs.Transfer | None = None
    ) -> torch.Tensor:
        """Logits after the last of `ids`, which follow `after` tokens of the cache; each layer
        waits for what `loading` brings of it."""
        for layer in self.cache.layers:
            layer.set_length(after)
        self.loading = loading
        output = self.model(input_ids=ids, use_cache=True, logits_to_keep=1, **{CACHE: self.cache})
        self.loading = None
        return output.logits[0, -1]

    def forward_by_math(self, ids: torch.Tensor, after: int) -> torch.Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            return self.forward(ids, after)

    def kv(self, tokens: int) -> list[torch.Tensor]:
        """A copy of the KV of that many tokens, as bits."""
        halves = [(layer.all_keys, layer.all_values) for layer in self.cache.layers]
        return [t[:, :, :tokens].view(torch.int16).clone() for half in halves for t in half]

    def has(self, kv: list[torch.Tensor]) -> bool:
        now = [t for layer in self.cache.layers for t in (layer.all_keys, layer.all_values)]
        count = kv[0].shape[2]
        return all(
            torch.equal(t[:, :, :count].view(torch.int16), bits)
            for t, bits in zip(now, kv, strict=True)
        )

    def wipe(self) -> None:
        for layer in self.cache.layers:
            layer.all_keys.fill_(float("nan"))
            layer.all_values.fill_(float("nan"))
        self.synchronize()


def timed(engine: Engine, work) -> tuple[float, object]:
    engine.synchronize()
    begin = time.perf_counter()
    result = work()
    engine.synchronize()
    return time.perf_counter() - begin, result


class Daemon:
    """A kvfsd of this run's own, in directories that are removed at the end."""

    def __init__(self, options: argparse.Namespace):
        self.bin = options.bin
        # The mount point, the state and the second tier.
        self.root = Path(tempfile.mkdtemp(prefix="kvfs-ttft-", dir=options.nvme))
        self.mount = self.root / "kv"
        self.mount.mkdir()
        self.arguments = [f"--dram={options.dram}", f"--nvme={self.root}/nvme:{options.nvme_size}"]
        self.process = None

    def start(self) -> None:
        log = (self.root / "kvfsd.log").open("a")
        self.process = subprocess.Popen(
            [
                self.bin / "kvfsd",
                self.mount,
                "--foreground",
                f"--state-dir={self.root}/state",
                f"--run-dir={self.root}/run",
                *self.arguments,
            ],
            stdout=log,
            stderr=log,
        )
        until = time.monotonic() + 60
        while not (self.mount / ".kvfs" / "version").exists():
            if self.process.poll() is not None or time.monotonic() > until:
                sys.exit("kvfsd did not start:\n" + (self.root / "kvfsd.log").read_text())
            time.sleep(0.05)

    def stop(self, drop_dram: bool) -> None:
        """After this everything is on the second tier, and with drop_dram nowhere else."""
        command = [self.bin / "kvfs", "umount", self.mount]
        subprocess.run(command + ["--drop-dram"] * drop_dram, check=True, stdout=subprocess.DEVNULL)
        self.process.wait(120)

    def remove(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop(drop_dram=True)
        shutil.rmtree(self.root, ignore_errors=True)


class Link:
    """One large copy from pinned memory: what no load can beat."""

    def __init__(self, engine: Engine):
        self.engine = engine
        pinned = engine.device != "cpu"
        self.source = torch.empty(1 << 30, dtype=torch.uint8, pin_memory=pinned).fill_(1)
        self.to = torch.empty_like(self.source, device=engine.device)
        self.speed()

    def speed(self) -> float:
        """Bytes a second."""
        copy = timed(self.engine, lambda: self.to.copy_(self.source, non_blocking=True))[0]
        return self.source.numel() / copy


class TorchCopy:
    """What an engine without a store of its own does: a pinned tensor for each layer's K and V."""

    def __init__(self, engine: Engine, tokens: int):
        self.engine = engine
        layers = engine.cache.layers
        self.to = [t[:, :, :tokens] for layer in layers for t in (layer.all_keys, layer.all_values)]
        pinned = engine.device != "cpu"
        self.source = [
            torch.empty(t.shape, dtype=t.dtype, pin_memory=pinned).copy_(t) for t in self.to
        ]

    def seconds(self) -> float:
        def copy() -> None:
            for to, source in zip(self.to, self.source, strict=True):
                to.copy_(source, non_blocking=True)

        return timed(self.engine, copy)[0]


class Run:
    def __init__(self, engine: Engine, daemon: Daemon, options: argparse.Namespace):
        self.engine, self.daemon = engine, daemon
        self.rounds, self.nvme_rounds = options.rounds, options.nvme_rounds
        self.cold_rounds, self.layer_step = options.cold_rounds, options.layer_step
        self.link = Link(engine)

    def store(self, namespace: kvfs.Namespace, ids: torch.Tensor, tokens: list[int]) -> dict:
        """Computes a prompt cold, keeps the logits after it, stores its KV."""
        engine, count = self.engine, len(tokens)
        engine.forward(ids, 0)  # the allocator has what it needs from here on
        cold = [timed(engine, lambda: engine.forward(ids, 0))[0] for _ in range(self.cold_rounds)]
        last = ids[:, count:]
        logits = engine.forward(last, count).clone()
        kv = engine.kv(count)
        again = [torch.equal(engine.forward(last, count), logits) for _ in range(REPEATS)]
        by_math = engine.forward_by_math(last, count).clone()

        def put() -> None:
            with namespace.reserve(tokens) as reservation:
                reservation.store(engine.pages, stream=engine.stream())
                reservation.commit()

        store = timed(engine, put)[0]
        torch_copy = TorchCopy(engine, count)
        torch_copy.seconds()
        return {
            "torch": statistics.median(torch_copy.seconds() for _ in range(self.rounds)),
            "cold": statistics.median(cold),
            "store": store,
            "logits": logits,
            "by_math": by_math,
            "kv": kv,
            "repeatable": all(again),
        }

    def hit(self, namespace: kvfs.Namespace, last: torch.Tensor, tokens, known: dict) -> dict:
        engine = self.engine
        engine.wipe()
        begin = time.perf_counter()
        match = namespace.match(tokens)
        matched = time.perf_counter()
        with namespace.acquire(match) as lease:
            leased = time.perf_counter()
            loading = lease.load_async(
                engine.pages, stream=engine.stream(), layer_step=self.layer_step
            )
            logits = engine.forward(last, match.tokens, loading)
            loading.wait()
        engine.synchronize()
        end = time.perf_counter()
        assert match.tokens == len(tokens), f"{match.tokens} of {len(tokens)} tokens are cached"
        # In the same round, for the limit: the machine's moods are in both.
        forward = timed(engine, lambda: engine.forward(last, match.tokens))[0]
        size = match.blocks * engine.geometry.block_bytes()
        link = self.link.speed()
        limit = size / link + forward
        return {
            "value": end - begin,
            "forward": forward,
            "link": link,
            "limit": limit,
            "ratio": limit / (end - begin),
            "match": matched - begin,
            "lease": leased - matched,
            "load": engine.arrived - leased,
            "dram_blocks": match.dram_blocks,
            "kv_identical": engine.has(known["kv"]),
            "logits_identical": torch.equal(logits, known["logits"]),
            "logits_difference": float((logits - known["logits"]).abs().max()),
            "math_identical": torch.equal(
                engine.forward_by_math(last, match.tokens), known["by_math"]
            ),
        }

    def warm_up(self, namespace: kvfs.Namespace, last: torch.Tensor, tokens, known: dict) -> None:
        """As in an engine that has been up for a while: the slabs are mapped, and pinned, which
        happens behind the first loads."""
        until = time.monotonic() + WARM_UP_SECONDS
        while time.monotonic() < until:
            hit = self.hit(namespace, last, tokens, known)
            if hit["load"] < 1.1 * (hit["limit"] - hit["forward"]):
                return

    def report(self, name: str, known: dict, hits: list[dict], with_limit: bool) -> None:
        def median(part: str) -> float:
            return statistics.median(hit[part] for hit in hits)

        value = median("value")
        row = {"bench": name, "value": value * 1e3, "unit": "ms"}
        if with_limit:
            ratio = median("ratio")
            row |= {"limit": median("limit") * 1e3, "ratio": ratio}
            row |= {"target": LEAST_RATIO, "met": ratio >= LEAST_RATIO}
        row |= {"cold": known["cold"] * 1e3, "speedup": known["cold"] / value}
        row |= {part: median(part) * 1e3 for part in ("match", "lease", "load", "forward")}
        row |= {"store": known["store"] * 1e3, "link": median("link") / 1e9}
        row |= {"torch": known["torch"] * 1e3}
        row |= {"repeatable": known["repeatable"]}
        row |= {
            part: all(hit[part] for hit in hits)
            for part in ("kv_identical", "logits_identical", "math_identical")
        }
        # NaN, which the memory held before the load, wins over every number.
        row |= {
            "logits_difference": float(
                torch.tensor([hit["logits_difference"] for hit in hits]).max()
            )
        }
        print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}))
        sys.stdout.flush()

    def length(self, shape: str, count: int, tiers: list[str]) -> None:
        engine, daemon = self.engine, self.daemon
        generator = torch.Generator().manual_seed(count)
        ids = torch.randint(1, engine.config.vocab_size, (1, count + 1), generator=generator)
        tokens = ids[0, :count].to(torch.int32).numpy()
        ids = ids.to(engine.device)
        last = ids[:, count:]
        suffix = f"{count // 1024}k"
        kvfs.create_namespace(str(daemon.mount), shape, engine.geometry)
        with kvfs.open(str(daemon.mount), shape, engine.geometry) as namespace:
            known = self.store(namespace, ids, tokens)
            if "dram" in tiers:
                self.warm_up(namespace, last, tokens, known)
                hits = [self.hit(namespace, last, tokens, known) for _ in range(self.rounds)]
                self.report(f"ttft_{suffix}", known, hits, with_limit=True)
            if "nvme" in tiers:
                with namespace.acquire(namespace.match(tokens)) as lease:
                    lease.flush(timeout=FLUSH_SECONDS)
        if "nvme" in tiers:
            hits = []
            for _ in range(self.nvme_rounds):
                daemon.stop(drop_dram=True)
                daemon.start()
                with kvfs.open(str(daemon.mount), shape, engine.geometry) as namespace:
                    hits.append(self.hit(namespace, last, tokens, known))
                    assert hits[-1]["dram_blocks"] == 0
            self.report(f"ttft_{suffix}_nvme", known, hits, with_limit=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=Path, required=True, help="directory of kvfsd and kvfs")
    parser.add_argument("--nvme", type=Path, required=True, help="a directory on a local disk")
    parser.add_argument("--nvme-size", default="40GiB")
    parser.add_argument("--dram", default="40GiB")
    parser.add_argument("--shape", choices=SHAPES, default="llama-3.1-8b")
    parser.add_argument("--tokens", type=int, nargs="+", default=[8192, 32768, 131072])
    parser.add_argument("--tiers", nargs="+", choices=["dram", "nvme"], default=["dram", "nvme"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cold-rounds", type=int, default=3, help="of the prefill")
    parser.add_argument("--nvme-rounds", type=int, default=2, help="a restart of the daemon each")
    parser.add_argument(
        "--layer-step",
        type=int,
        default=8,
        help="layers that arrive together; 0: the forward begins when all have",
    )
    options = parser.parse_args()
    engine = Engine(options.shape, options.device, max(options.tokens))
    daemon = Daemon(options)
    try:
        daemon.start()
        run = Run(engine, daemon, options)
        for count in options.tokens:
            run.length(options.shape, count, options.tiers)
    finally:
        daemon.remove()


if __name__ == "__main__":
    main()
