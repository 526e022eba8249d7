"""Time to the first token in vLLM: computed, out of its own cache, and out of a connector's.

    PYTHONPATH=... python3 tools/benchmarks/vllm_ttft.py --connector kvfs --path /kv --encoding packed

One engine, one connector: none (the reference), kvfs, offloading (vLLM's own, host memory), lmcache
(in its process, host memory). To compare them, run one after the other on one machine. A model of a
known shape with random weights. Each round takes a prompt that is new, of N tokens in whole blocks
and a few more, and asks for it three times: nobody has it; vLLM's own cache has it; only the
connector has it, if there is one. One JSON object for each N:

    bench             "vllm_ttft_32k_kvfs_packed"
    cold, own, hit    ms from the request to its first token, medians; ..._all: of every round
    cached            tokens that each hit found: trust `hit` where it is N
    equal_tokens      so many of the 16 tokens of each hit's answer are, from the first on, those out
                      of vLLM's own cache (where the encoding rounds, fewer)
    kv_matters        an answer out of vLLM's own cache is another one when its pages are blanked:
                      without that equal tokens say nothing

Before a hit vLLM's pages are blanked, so that nothing left there from before stands in for what a
connector does not bring.

Needs vLLM; with kvfs the mount `--path`, and the package kvfs.
"""

import argparse
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
import time

from ttft_engine import SHAPES

MORE = 8  # tokens behind the cached ones, so that own cache and hit compute the same ones
ANSWER = 16
GIB = 1 << 30


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--connector", choices=("none", "kvfs", "offloading", "lmcache"), required=True
    )
    parser.add_argument("--path", help="with kvfs: the mount")
    parser.add_argument("--encoding", default="raw", help="with kvfs: raw, packed, fp8 or int8")
    parser.add_argument("--host-gib", type=float, default=40, help="memory of the other connectors")
    parser.add_argument("--shape", choices=SHAPES, default="llama-3.1-8b")
    parser.add_argument("--tokens", type=int, nargs="+", default=[8192, 32768, 65536])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--graphs", action="store_true", help="CUDA graphs, where vLLM has them")
    parser.add_argument("--options", type=json.loads, default={}, help="more of vllm.LLM's, JSON")
    return parser.parse_args()


def transfer(given) -> dict | None:
    """vLLM's kv_transfer_config."""
    if given.connector == "none":
        return None
    kvfs = {
        "kv_connector": "KvfsConnector",
        "kv_connector_module_path": "kvfs.vllm",
        "kv_connector_extra_config": {
            "path": given.path,
            "encoding": given.encoding,
            "required": True,
            "dram_gib": given.host_gib,  # the others pin all of theirs at the start, too
        },
    }
    offloading = {
        "kv_connector": "OffloadingConnector",
        "kv_connector_extra_config": {"cpu_bytes_to_use": int(given.host_gib * GIB)},
    }
    lmcache = {"kv_connector": "LMCacheConnectorV1"}
    of = {"kvfs": kvfs, "offloading": offloading, "lmcache": lmcache}[given.connector]
    return {"kv_role": "kv_both", **of}


def write_model(directory: str, shape: dict) -> None:
    """A configuration that is a model for vLLM, which makes up the weights."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "max_position_embeddings": 131_072,
        "rope_theta": 500_000.0,
        "tie_word_embeddings": False,
        "dtype": "bfloat16",
        **shape,
    }
    with open(f"{directory}/config.json", "w") as file:
        json.dump(config, file)


def add_loader() -> str:
    """The name of a load format. Weights made up by vLLM's own are within 0.001, those of norms too,
    so that attention adds nothing; here each row's sum of squares is about 4, and attention looks at
    few tokens."""
    from vllm.model_executor.model_loader import register_model_loader
    from vllm.model_executor.model_loader.dummy_loader import DummyModelLoader

    class SpreadLoader(DummyModelLoader):
        def load_weights(self, model, model_config):
            super().load_weights(model, model_config)
            for name, parameter in model.named_parameters():
                if "norm" in name:
                    parameter.data.fill_(1)
                else:
                    parameter.data.mul_(2000 * (3 / parameter.shape[-1]) ** 0.5)

    register_model_loader("spread")(SpreadLoader)
    return "spread"


def blank_pages(worker) -> None:
    """And waits for it: of 100 GiB it takes a GPU 40 ms, which no load is to be held up by."""
    import torch

    for cache in worker.model_runner.kv_caches:
        for tensor in cache if isinstance(cache, list | tuple) else (cache,):
            tensor.zero_()
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Engine:
    """A vLLM that is asked for one prompt at a time."""

    def __init__(self, given, model: str):
        from vllm import LLM
        from vllm.config import KVTransferConfig

        config = transfer(given)
        options = {
            "model": model,
            "skip_tokenizer_init": True,
            "load_format": add_loader(),
            "max_model_len": max(given.tokens) + MORE + ANSWER,
            "max_num_seqs": 8,
            "enforce_eager": not given.graphs,
            "kv_transfer_config": KVTransferConfig(**config) if config else None,
        }
        self._llm = LLM(**{**options, **given.options})
        self._names = itertools.count()
        self._random = random.Random(1)
        self._vocabulary = SHAPES[given.shape]["vocab_size"]

    def prompt(self, tokens: int) -> list[int]:
        return [self._random.randrange(self._vocabulary) for _ in range(tokens)]

    def ask(self, prompt, answer: int = ANSWER):
        """Milliseconds to the first token, the answer, and how many tokens were cached."""
        from vllm import SamplingParams

        engine = self._llm.llm_engine
        sampling = SamplingParams(
            max_tokens=answer, temperature=0.0, ignore_eos=True, detokenize=False
        )
        first = None
        began = time.perf_counter()
        engine.add_request(str(next(self._names)), {"prompt_token_ids": prompt}, sampling)
        while engine.has_unfinished_requests():
            for output in engine.step():
                if first is None and output.outputs[0].token_ids:
                    first = time.perf_counter() - began
        return 1e3 * first, list(output.outputs[0].token_ids), output.num_cached_tokens

    def settle(self, seconds: float):
        """Lets a connector store, which it does behind and beside later requests."""
        for _ in range(3):
            self.ask(self.prompt(40), answer=4)
            time.sleep(seconds / 3)

    def forget(self):
        """vLLM's own cache."""
        for _ in range(100):
            if self._llm.reset_prefix_cache():
                return self.blank()
            self.settle(0.3)
        raise RuntimeError("vLLM's cache cannot be emptied")

    def blank(self):
        """The pages, whatever vLLM takes them for."""
        self._llm.collective_rpc(blank_pages)


def leading(one: list[int], other: list[int]) -> int:
    """How many tokens are equal before the first that is not."""
    pairs = zip(one, other, strict=True)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), len(one))


def measure(engine: Engine, tokens: int, rounds: int, connected: bool) -> dict:
    """A row; without a connector nobody has what vLLM has forgotten: there is no hit."""
    states = ("cold", "own", "hit") if connected else ("cold", "own")
    times = {state: [] for state in states}
    cached, equal, matters = [], [], False
    for turn in range(rounds + 1):
        prompt = engine.prompt(tokens + MORE)
        answers = {"cold": engine.ask(prompt)}
        engine.settle(0.5 + tokens / 60_000)
        own = answers["own"] = engine.ask(prompt)
        engine.settle(0.3)
        if turn == 0:
            engine.blank()
            matters = engine.ask(prompt)[1] != own[1]
        engine.forget()
        if connected:
            answers["hit"] = engine.ask(prompt)
            engine.settle(0.3)
            engine.forget()
        if turn == 0:
            continue  # memory is touched and pinned for the first time
        for state in states:
            times[state].append(round(answers[state][0], 2))
        if connected:
            cached.append(answers["hit"][2])
            equal.append(leading(answers["hit"][1], own[1]))
    return {
        **{state: round(statistics.median(of), 2) for state, of in times.items()},
        **{f"{state}_all": of for state, of in times.items()},
        "cached": cached,
        "equal_tokens": equal,
        "kv_matters": matters,
    }


def main():
    given = arguments()
    if given.connector == "kvfs" and not given.path:
        sys.exit("vllm_ttft: --connector kvfs needs --path, the mount")
    rows = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # vLLM logs there
    environment = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "HF_HUB_OFFLINE": "1",
        "PYTHONHASHSEED": "0",
        "LMCACHE_LOCAL_CPU": "True",
        "LMCACHE_MAX_LOCAL_CPU_SIZE": str(given.host_gib),
        "LMCACHE_TRACK_USAGE": "false",
    }
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    name = given.connector
    if name == "kvfs" and given.encoding != "raw":
        name = f"kvfs_{given.encoding}"
    with tempfile.TemporaryDirectory(prefix="vllm-ttft-") as model:
        write_model(model, SHAPES[given.shape])
        engine = Engine(given, model)
        for tokens in given.tokens:
            bench = f"vllm_ttft_{tokens // 1024}k_{name}"
            row = measure(engine, tokens, given.rounds, given.connector != "none")
            print(json.dumps({"bench": bench, **row}), file=rows)


if __name__ == "__main__":
    main()
