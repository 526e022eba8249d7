"""Time to the first token with a real forward pass: computed, and loaded from kvfs.

    PYTHONPATH=... python3 tools/benchmarks/ttft.py --bin build/static/bin --nvme /var/tmp/ttft

A model of a known shape with random weights (they do not change the time) runs in transformers. Its
KV of N tokens is computed once and stored; then it is found, leased and loaded into the engine's
memory, and one token more is computed. One JSON object a line:

    bench, value, unit   "ttft_32k": match + lease + load + the one-token forward, milliseconds;
                         "ttft_32k_packed", ..._fp8, ..._int8: of the same KV, stored so;
                         "ttft_32k_gpu": out of a daemon with a GPU tier that has all of it; the
                         limit is the forward: the prompt in the engine's own cache;
                         of the first --encoding, too
                         "ttft_32k_nvme": out of a daemon that has just been restarted, of the
                         first --encoding
    limit, ratio         the engine's bytes / the link's speed (one large pinned copy) + that
                         forward; limit/value, which smaller blocks may bring above 1
    target               of the ratio, for raw blocks; not for NVMe, where the disk is the limit
    cold, speedup        prefill of N + 1 tokens in one piece, and how many times longer that takes
    speedup_target       of that, for some shapes, lengths and encodings; met: each target is
    torch                the same KV by torch: pinned tensors of each layer, copy_(non_blocking)
    match, lease, load   match and lease are parts of `value`, and so is the load until its last
                         layer had arrived; layers are computed from when they are there
    forward              the one-token forward once more; link: GB/s of that copy; both in each round
    store                gather and DMA out, and commit
    cached_tokens        N; fewer where `unpackable_blocks` (packed) is not 0: the prefix ends before
                         the first, and what follows is computed, which is part of `value`
    kv_identical         the KV loaded is, bit by bit, the KV stored (raw, packed)
    kv_within_rounding   no number of it is further from the one stored than the encoding promises,
                         and kv_largest_deviation is the furthest (fp8, int8)
    logits_difference    the largest difference of a logit after it from those before the store
    logits_identical     there is none (raw, packed)
    repeatable           they are the same each time when computed again from the same KV
    math_identical       as logits_identical, with attention by plain matrix products, whose sums
                         always have the same order; the fast kernels' need not

Figures are medians of --rounds, and of --nvme-rounds from disk. Needs torch, transformers, the
package kvfs, and root for the mount.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import kvfs
import torch
from ttft_daemon import Daemon
from ttft_encoding import ENCODINGS, EXACT, compare, targets
from ttft_engine import BLOCK_TOKENS, SHAPES, Engine, Link, TorchCopy, timed

REPEATS = 4  # of a forward whose logits are compared
FLUSH_SECONDS = 300
HEAT_SECONDS = 60


class Prompt:
    """So many tokens that are to be cached, and one more."""

    def __init__(self, engine: Engine, ids: torch.Tensor):
        self.count = ids.numel() - 1
        self.tokens = ids[: self.count].to(torch.int32).numpy()
        self.ids = ids[None].to(engine.device)

    @classmethod
    def random(cls, engine: Engine, count: int) -> "Prompt":
        generator = torch.Generator().manual_seed(count)
        return cls(
            engine, torch.randint(1, engine.config.vocab_size, (count + 1,), generator=generator)
        )

    def after(self, tokens: int) -> torch.Tensor:
        return self.ids[:, tokens:]


class Run:
    def __init__(self, engine: Engine, daemon: Daemon, options: argparse.Namespace):
        self.engine, self.daemon, self.options = engine, daemon, options
        self.link = Link(engine)

    def compute(self, prompt: Prompt) -> dict:
        """A prompt cold: how long that takes, its KV, the logits after it."""
        engine, count, last = self.engine, prompt.count, prompt.after(prompt.count)
        engine.forward(prompt.ids, 0)  # the allocator has what it needs from here on
        cold = [
            timed(engine, lambda: engine.forward(prompt.ids, 0))[0]
            for _ in range(self.options.cold_rounds)
        ]
        logits = engine.forward(last, count).clone()
        again = [torch.equal(engine.forward(last, count), logits) for _ in range(REPEATS)]
        by_math = engine.forward_by_math(last, count).clone()
        torch_copy = TorchCopy(engine, count)
        torch_copy.seconds()
        torch_times = [torch_copy.seconds() for _ in range(self.options.rounds)]
        engine.give_back()
        return {
            "torch": statistics.median(torch_times),
            "cold": statistics.median(cold),
            "logits": logits,
            "by_math": by_math,
            "kv": torch_copy.source,
            "repeatable": all(again),
        }

    def store(self, namespace: kvfs.Namespace, prompt: Prompt, kv: list[torch.Tensor]) -> float:
        self.engine.put(kv)

        def put() -> None:
            with namespace.reserve(prompt.tokens) as reservation:
                reservation.store(self.engine.pages, stream=self.engine.stream())
                reservation.commit()

        return timed(self.engine, put)[0]

    def hit(self, namespace: kvfs.Namespace, prompt: Prompt, known: dict) -> dict:
        engine, geometry = self.engine, namespace.geometry
        engine.wipe()
        begin = time.perf_counter()
        match = namespace.match(prompt.tokens)
        matched = time.perf_counter()
        lease, loading = namespace.acquire(match), None
        leased = time.perf_counter()
        if lease:
            loading = lease.load_async(
                engine.pages, stream=engine.stream(), layer_step=self.options.layer_step
            )
        logits = engine.go_on(prompt.after(match.tokens), match.tokens, loading)
        if lease:
            loading.wait()
            lease.release()
        engine.synchronize()
        end = time.perf_counter()
        arrived = engine.arrived
        assert geometry.encoding == "packed" or match.tokens == prompt.count, match
        checked = compare(
            engine.halves(match.tokens),
            [half[:, :, : match.tokens] for half in known["kv"]],
            geometry.encoding,
            BLOCK_TOKENS,
        )
        # In the same round, for the limit: the machine's moods are in both.
        forward = timed(
            engine, lambda: engine.go_on(prompt.after(match.tokens), match.tokens, None)
        )[0]
        size = match.blocks * geometry.block_bytes()
        link = self.link.speed()
        limit = forward if self.daemon.gpu else size / link + forward
        if geometry.encoding in EXACT:
            checked["logits_identical"] = torch.equal(logits, known["logits"])
            checked["math_identical"] = match.tokens == prompt.count and torch.equal(
                engine.forward_by_math(prompt.after(prompt.count), prompt.count), known["by_math"]
            )
        return {
            "value": end - begin,
            "forward": forward,
            "link": link,
            "limit": limit,
            "ratio": limit / (end - begin),
            "match": matched - begin,
            "lease": leased - matched,
            "load": arrived - leased,
            "size": size,
            "dram_blocks": match.dram_blocks,
            "cached_tokens": match.tokens,
            "logits_difference": float((logits - known["logits"]).abs().max()),
            "checked": checked,
        }

    def warm_up(self, namespace: kvfs.Namespace, prompt: Prompt, known: dict) -> None:
        """As in an engine that has been up for a while: the slabs are mapped, and pinned, which
        happens behind the first loads."""
        smaller = self.daemon.stats(namespace.name)["ratio"]
        until = time.monotonic() + self.options.warm_up
        while time.monotonic() < until:
            hit = self.hit(namespace, prompt, known)
            if hit["load"] < 1.1 * hit["size"] / smaller / hit["link"]:
                return

    def heat(self, namespace: kvfs.Namespace, prompt: Prompt, known: dict) -> None:
        """As warm_up(), until all of the prompt is in the GPU tier."""
        blocks = namespace.match(prompt.tokens).blocks
        until = time.monotonic() + HEAT_SECONDS
        while time.monotonic() < until:
            self.hit(namespace, prompt, known)
            if self.daemon.stats(namespace.name)["tiers"]["gpu"]["blocks"] == blocks:
                self.hit(namespace, prompt, known)  # which maps the last of it
                return
        sys.exit("the prompt did not come into the GPU tier")

    def row(
        self, name: str, encoding: str, prompt: Prompt, known: dict, hits: list, tier: str
    ) -> dict:
        def median(part: str) -> float:
            return statistics.median(hit[part] for hit in hits)

        def of_all(part: str):
            values = [hit["checked"][part] for hit in hits]
            if isinstance(values[0], bool):
                return all(values)
            return float(torch.tensor(values).max())  # NaN wins over every number

        speedup = known["cold"] / median("value")
        row = {"bench": name, "value": median("value") * 1e3, "unit": "ms"}
        if tier != "nvme":
            row |= {"limit": median("limit") * 1e3, "ratio": median("ratio")}
            goal = "gpu" if tier == "gpu" else encoding
            row |= targets(self.engine.shape, prompt.count, goal, median("ratio"), speedup)
        row |= {"cold": known["cold"] * 1e3, "speedup": speedup}
        row |= {part: median(part) * 1e3 for part in ("match", "lease", "load", "forward")}
        row |= {"store": known["store"] * 1e3, "link": median("link") / 1e9}
        row |= {"torch": known["torch"] * 1e3, "repeatable": known["repeatable"]}
        row |= {"cached_tokens": min(hit["cached_tokens"] for hit in hits)}
        if encoding == "packed":
            row |= {"unpackable_blocks": known["unpackable_blocks"]}
        row |= {part: of_all(part) for part in hits[0]["checked"]}
        difference = torch.tensor([hit["logits_difference"] for hit in hits]).max()
        return row | {"logits_difference": float(difference)}

    def encoding(self, prompt: Prompt, computed: dict, encoding: str, tiers: list[str]) -> None:
        """The rows of one encoding, in a namespace that is there no longer than they are measured."""
        options, shape = self.options, self.engine.shape
        geometry = self.engine.geometry(encoding)
        name = f"{shape}-{encoding}"
        row = f"ttft_{prompt.count // 1024}k" + ("" if encoding == "raw" else f"_{encoding}")
        mount = str(self.daemon.mount)
        kvfs.create_namespace(mount, name, geometry)
        with kvfs.open(mount, name, geometry) as namespace:
            known = computed | {"store": self.store(namespace, prompt, computed["kv"])}
            known["unpackable_blocks"] = self.daemon.stats(name)["unpackable_blocks"]
            if "dram" in tiers:
                self.warm_up(namespace, prompt, known)
                hits = [self.hit(namespace, prompt, known) for _ in range(options.rounds)]
                show(self.row(row, encoding, prompt, known, hits, "dram"))
            if "nvme" in tiers and (lease := namespace.acquire(prompt.tokens)):
                with lease:
                    lease.flush(timeout=FLUSH_SECONDS)
        if "gpu" in tiers:
            self.daemon.stop(drop_dram=False)
            self.daemon.start(gpu=options.gpu)
            with kvfs.open(mount, name, geometry) as namespace:
                self.heat(namespace, prompt, known)
                hits = [self.hit(namespace, prompt, known) for _ in range(options.rounds)]
            show(self.row(f"{row}_gpu", encoding, prompt, known, hits, "gpu"))
            self.daemon.stop(drop_dram=False)
            self.daemon.start()
        if "nvme" in tiers:
            hits = []
            for _ in range(options.nvme_rounds):
                self.daemon.stop(drop_dram=True)
                self.daemon.start()
                with kvfs.open(mount, name, geometry) as namespace:
                    hits.append(self.hit(namespace, prompt, known))
                    assert hits[-1]["dram_blocks"] == 0
            show(self.row(f"{row}_nvme", encoding, prompt, known, hits, "nvme"))
        self.daemon.remove_namespace(name)

    def length(self, count: int) -> None:
        options = self.options
        prompt = Prompt.random(self.engine, count)
        computed = self.compute(prompt)
        for encoding in dict.fromkeys(options.encoding):
            first = encoding == options.encoding[0]
            tiers = [tier for tier in options.tiers if first or tier == "dram"]
            self.encoding(prompt, computed, encoding, tiers)


def show(row: dict) -> None:
    print(json.dumps({k: round(v, 3) if type(v) is float else v for k, v in row.items()}))
    sys.stdout.flush()


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=Path, required=True, help="directory of kvfsd and kvfs")
    parser.add_argument("--nvme", type=Path, required=True, help="a directory on a local disk")
    parser.add_argument("--nvme-size", default="40GiB")
    parser.add_argument("--dram", default="40GiB")
    parser.add_argument("--shape", choices=SHAPES, default="llama-3.1-8b")
    parser.add_argument("--tokens", type=int, nargs="+", default=[8192, 32768, 131072])
    parser.add_argument("--encoding", nargs="+", choices=ENCODINGS, default=list(ENCODINGS))
    parser.add_argument("--gpu", default="0:20GiB", help="the GPU tier, as kvfsd takes it")
    tiers = ["gpu", "dram", "nvme"]
    parser.add_argument("--tiers", nargs="+", choices=tiers, default=tiers)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cold-rounds", type=int, default=3, help="of the prefill")
    parser.add_argument("--nvme-rounds", type=int, default=2, help="a restart of the daemon each")
    parser.add_argument("--warm-up", type=float, default=30, help="seconds at most, each encoding")
    parser.add_argument(
        "--layer-step",
        type=int,
        default=8,
        help="layers that arrive together; 0: the forward begins when all have",
    )
    return parser.parse_args(arguments)


def main() -> None:
    chosen = options()
    engine = Engine(chosen.shape, chosen.device, max(chosen.tokens))
    daemon = Daemon(chosen)
    try:
        daemon.start()
        run = Run(engine, daemon, chosen)
        for count in dict.fromkeys(chosen.tokens):
            run.length(count)
    finally:
        daemon.remove()


if __name__ == "__main__":
    main()
