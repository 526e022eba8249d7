"""accuracy.py MODEL MOUNT --text FILE...: what an encoding costs a real model, as JSON on stdout.

The KV of prompts of --context tokens is rounded to BF16, stored and loaded through kvfs in each
encoding, and the model goes on from what came back: greedily, and once more along the tokens that it
chose with the BF16 KV, for the logits. It computes in float32, so that nothing but the KV makes a
difference. MODEL is a directory that transformers loads, or one with a
GGUF file. Its layers keep every token, or some have a sliding window: those are a group of their
own, of which only the window is loaded. The namespaces accuracy-MODEL-* stay on MOUNT.
"""

import argparse
import inspect
import json
import sys
from pathlib import Path

import kvfs
import torch
from real_kv import load, prompts
from transformers import DynamicCache

LAYOUT = "1 heads tokens dim"


class Continuations:
    """Prompts of one length, side by side, and how the model goes on."""

    def __init__(self, model, tokens: list[list[int]], steps: int):
        self.model, self.steps = model, steps
        known = inspect.signature(model.forward).parameters
        self.cache_name = "cache" if "cache" in known else "past_key_values"
        self.tokens = torch.tensor(tokens)
        cache = DynamicCache()
        self.forward(self.tokens[:, :-1], cache, logits_to_keep=1)
        self.kv = [(layer.keys.bfloat16(), layer.values.bfloat16()) for layer in cache.layers]
        self.chosen = self.greedy(self.kv)
        self.logits = self.along(self.kv, self.chosen)

    @torch.inference_mode()
    def forward(self, tokens, cache, **more):
        more[self.cache_name] = cache
        return self.model(input_ids=tokens, use_cache=True, **more).logits

    def greedy(self, kv) -> torch.Tensor:
        cache, feed, chosen = cache_of(kv), self.tokens[:, -1:], []
        while len(chosen) < self.steps:
            feed = self.forward(feed, cache)[:, -1:].argmax(-1)
            chosen.append(feed)
        return torch.cat(chosen, 1)

    def along(self, kv, chosen) -> torch.Tensor:
        """Logits of every step, had these tokens been chosen."""
        feed = torch.cat([self.tokens[:, -1:], chosen[:, :-1]], 1)
        return self.forward(feed, cache_of(kv))


def cache_of(kv) -> DynamicCache:
    return DynamicCache([(keys.float(), values.float()) for keys, values in kv])


class Stored:
    """A namespace of a model in one encoding."""

    def __init__(self, mount: Path, model, encoding: str):
        c = model.config.get_text_config(decoder=True)
        dim = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
        kinds = getattr(c, "layer_types", None) or ["full_attention"] * c.num_hidden_layers
        windows = {"full_attention": 0, "sliding_attention": getattr(c, "sliding_window", None)}
        if unknown := set(kinds) - set(windows):
            sys.exit(f"layers that cannot be stored: {', '.join(unknown)}")
        self.layers, groups = [], []  # of each group
        for kind in sorted(set(kinds)):
            self.layers.append([i for i, its in enumerate(kinds) if its == kind])
            groups.append(
                kvfs.Group(len(self.layers[-1]), c.num_key_value_heads, dim, window=windows[kind])
            )
        geometry = kvfs.Geometry(c.model_type, torch.bfloat16, groups, encoding=encoding)
        name = f"accuracy-{c.model_type}-{encoding}".replace("_", "-")
        kvfs.create_namespace(mount, name, geometry)
        self.namespace = kvfs.open(mount, name, geometry)
        self.stats = Path(mount) / name / ".kvfs/stats.json"

    def ratio(self) -> float:
        return json.loads(self.stats.read_text())["ratio"]

    def through(self, tokens: torch.Tensor, kv):
        """The KV of all prompts as it comes back; what no full block has is kept as it was."""
        back = [(keys.clone(), values.clone()) for keys, values in kv]
        for row, prompt in enumerate(tokens.numpy().astype("int32")):
            self.store(prompt, self.pages(kv, row))
            self.fetch(prompt, self.pages(back, row))
        return back

    def pages(self, kv, row: int) -> list[kvfs.Pages]:
        """Of each group."""
        return [
            kvfs.Pages(
                keys=[kv[layer][0][row : row + 1] for layer in layers],
                values=[kv[layer][1][row : row + 1] for layer in layers],
                layout=LAYOUT,
            )
            for layers in self.layers
        ]

    def store(self, prompt, pages: list[kvfs.Pages]) -> None:
        with self.namespace.reserve(prompt) as reservation:
            if reservation.count:
                for group, its in enumerate(pages):
                    reservation.store(its, group=group)
                reservation.commit()

    def fetch(self, prompt, pages: list[kvfs.Pages]) -> None:
        size = self.namespace.block_tokens
        with self.namespace.acquire(prompt) as lease:
            assert lease.tokens == len(prompt) // size * size, "a block was not stored"
            for group, its in enumerate(pages):
                window = self.namespace.geometry.groups[group].window
                begin = max(0, lease.tokens - window) // size if window else 0
                lease.load(its, group=group, first_block=begin)


class Score:
    """Sums over continuations."""

    def __init__(self):
        self.tokens = self.greedy = self.top = self.same = self.continuations = 0
        self.largest = self.sum = self.squares = self.numbers = 0.0

    def add(self, reference: Continuations, kv):
        logits = reference.along(kv, reference.chosen)
        off = (logits - reference.logits).abs()
        self.largest = max(self.largest, off.max().item())
        self.sum += off.double().sum().item()
        self.squares += reference.logits.var(-1).double().sum().item()
        self.numbers += off.numel()
        self.top += (logits.argmax(-1) == reference.logits.argmax(-1)).sum().item()
        equal = reference.greedy(kv) == reference.chosen
        self.greedy += equal.sum().item()
        self.same += equal.all(1).sum().item()
        self.continuations += len(equal)
        self.tokens += equal.numel()

    def row(self, encoding: str, ratio: float) -> dict:
        return {
            "encoding": encoding,
            "ratio": round(ratio, 3),
            "continuations": self.continuations,
            "tokens": self.tokens,
            "logits_largest_deviation": round(self.largest, 4),
            "logits_mean_deviation": round(self.sum / self.numbers, 5),
            "logits_spread": round((self.squares / self.tokens) ** 0.5, 3),
            "equal_next_tokens": round(self.top / self.tokens, 4),
            "equal_greedy_tokens": round(self.greedy / self.tokens, 4),
            "equal_continuations": round(self.same / self.continuations, 4),
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("mount", type=Path)
    parser.add_argument("--text", type=Path, nargs="+", required=True)
    parser.add_argument("--encoding", nargs="+", default=["raw", "packed", "fp8", "int8"])
    parser.add_argument("--continuations", type=int, default=64)
    parser.add_argument("--context", type=int, default=513)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--batch", type=int, default=16)
    arguments = parser.parse_args()
    model, tokenizer = load(arguments.model)
    model = model.float()
    cuts = list(prompts(tokenizer, arguments.text, arguments.context))
    if len(cuts) < arguments.continuations:
        parser.error(f"the texts have {len(cuts)} prompts of {arguments.context} tokens only")
    step = len(cuts) / arguments.continuations  # from all parts of the texts
    cuts = [cuts[int(i * step)] for i in range(arguments.continuations)]
    stores = {name: Stored(arguments.mount, model, name) for name in arguments.encoding}
    scores = {name: Score() for name in stores}
    for first in range(0, len(cuts), arguments.batch):
        reference = Continuations(model, cuts[first : first + arguments.batch], arguments.steps)
        for name, stored in stores.items():
            scores[name].add(reference, stored.through(reference.tokens[:, :-1], reference.kv))
        print(f"{first + len(reference.tokens)} continuations", file=sys.stderr, flush=True)
    for name, stored in stores.items():
        print(json.dumps(scores[name].row(name, stored.ratio())))


if __name__ == "__main__":
    main()
