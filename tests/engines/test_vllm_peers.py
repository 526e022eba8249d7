"""Times to the first token side by side, in one run: vLLM without a connector, with KvfsConnector,
with its own fs tier, with LMCache's server. Prints a JSON line for each.

Each is a process that stays. They take turns, in each of which every one computes a prompt that is
new (by its salt) and is asked for it again. All is in memory: kvfs's DRAM tier, vLLM's CPU tier,
LMCache's own, and files on tmpfs.
"""

import contextlib
import itertools
import json
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from engine_runs import HERE, EngineRun, kvfs_on, tiering_on
from lmcache_server import CHUNK, ENVIRONMENT, INSTALLED, Server, transfer

ROUNDS = int(os.environ.get("KVFS_ENGINE_PEER_ROUNDS", "5"))
TOKENS = int(os.environ.get("KVFS_ENGINE_PEER_TOKENS", "2048")) // CHUNK * CHUNK
BLOCK = 128  # vLLM's on a CPU
TURNS = 1 + ROUNDS  # the first is a rehearsal
ANSWER = 8
SETTLE_S = 2.0  # for what is stored behind a request


@dataclass
class Request:
    """For this turn's prompt, or that of `age` turns before."""

    name: str
    age: int = 0
    forget: bool = True  # vLLM's own cache is emptied first
    before: object = None  # what else is done first

    def steps(self, prompt, turn) -> dict:
        name, salt = f"{turn} {self.name}", f"turn {turn - self.age}"
        forget = {f"{name}, before": {"forget": None}} if self.forget else {}
        return forget | {name: {"generate": prompt, "max_tokens": ANSWER, "cache_salt": salt}}


class Peer:
    """An engine that does its requests when it is told to."""

    def __init__(self, directory, name, model, prompt, connector, requests, environment):
        self._requests = requests
        parts = list(itertools.product(range(TURNS), requests))
        waits = [directory / f"{name}-{number}" for number in range(len(parts) + 1)]
        steps = {}
        for file, (turn, request) in zip(waits[:-1], parts, strict=True):
            steps |= {file.name: {"wait_for": str(file)}} | request.steps(prompt, turn)
        steps[waits[-1].name] = {"wait_for": str(waits[-1])}
        # As `vllm serve` has it: the engine in a process of its own.
        environment = {"VLLM_ENABLE_V1_MULTIPROCESSING": "1", **environment}
        # Pages for one prompt: after the first turn there are none that were never touched.
        options = {"max_model_len": TOKENS + 512, "num_gpu_blocks_override": TOKENS // BLOCK + 8}
        self.run = EngineRun(directory, name, model, connector, steps, options, environment)
        self._waits = iter(waits)
        self._reach_next()

    def turn(self):
        for request in self._requests:
            if request.before:
                request.before()
            self._at.touch()
            self._reach_next()
            time.sleep(SETTLE_S)

    def _reach_next(self):
        self._at = next(self._waits)
        self.run.until_step(self._at)

    def results(self) -> dict[str, list]:
        """By request, a result for each round."""
        self._at.touch()
        answers = vars(self.run.results())
        return {
            request.name: [answers[f"{turn} {request.name}"] for turn in range(1, TURNS)]
            for request in self._requests
        }


@pytest.fixture
def prompt(model):
    from transformers import AutoTokenizer

    root = HERE.parent.parent
    text = "".join((root / name).read_text() for name in ("LICENSE", "README.md"))
    tokens = AutoTokenizer.from_pretrained(model)(text).input_ids
    assert len(tokens) > TOKENS
    return tokens[: TOKENS + 1]  # one is always computed


@pytest.fixture
def size(model) -> int:
    """Bytes of the prompt's KV."""
    of = json.loads((model / "config.json").read_text())
    return TOKENS * of["num_hidden_layers"] * 2 * of["num_key_value_heads"] * of["head_dim"] * 4


@pytest.fixture
def peers(make_daemon, model, prompt, size, tmp_path):
    with contextlib.ExitStack() as at_end:
        memory = tempfile.TemporaryDirectory(prefix="kvfs-peers.", dir="/dev/shm")
        memory = Path(at_end.enter_context(memory))

        def start(name, connector, *requests, **environment) -> Peer:
            requests = (Request("cold"), *requests)
            peer = Peer(tmp_path, name, model, prompt, connector, requests, environment)
            at_end.callback(peer.run.end)
            return peer

        daemon = make_daemon(dram=str((TURNS + 1) * size), nvme=None)
        peers = {
            "none": start("none", None, Request("own cache", forget=False)),
            "kvfs": start("kvfs", kvfs_on(daemon.mount), Request("dram")),
            # Its memory has room for one prompt: that of the turn before is in files only.
            "fs tier": start(
                "fs-tier",
                tiering_on(memory / "tier", size * 9 // 8),
                Request("memory"),
                Request("files", age=1),
            ),
        }
        if INSTALLED:
            adapter = {"type": "fs", "base_path": str(memory / "lmcache")}
            more = ["--shm-name", memory.name, "--l1-size-gb", 4 * size / 1e9]
            server = Server(adapter, tmp_path / "server.log", more)
            at_end.callback(server.stop)
            peers["lmcache"] = start(
                "lmcache",
                transfer(server.wait().port),
                Request("memory"),
                Request("files", before=server.forget),
                **ENVIRONMENT,
            )
        yield peers


def copy_seconds(size: int, threads: int) -> float:
    """What memcpy takes for so many bytes."""
    target, source = np.zeros(size, np.uint8), np.ones(size, np.uint8)
    parts = np.array_split(target, threads), np.array_split(source, threads)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(np.copyto, *parts))
        began = time.perf_counter()
        list(pool.map(np.copyto, *parts))
        return time.perf_counter() - began


def test_times_to_the_first_token(peers, size, capsys):
    copies = []
    for _ in range(TURNS):
        for peer in peers.values():
            peer.turn()
        copies.append(min(copy_seconds(size, threads) for threads in (1, os.cpu_count())))
    results = {name: peer.results() for name, peer in peers.items()}
    expected = results["none"]["cold"][0]["tokens"]
    ttft = {}
    for name, of_peer in results.items():
        for request, answers in of_peer.items():
            assert [answer["tokens"] for answer in answers] == [expected] * ROUNDS
            found = 0 if request == "cold" else TOKENS
            assert [answer["cached"] for answer in answers] == [found] * ROUNDS, (name, request)
            ttft[f"{name}, {request}"] = [1e3 * answer["ttft"] for answer in answers]
    ttft["memcpy"] = [1e3 * seconds for seconds in copies[1:]]
    limits = np.add(ttft["none, own cache"], ttft["memcpy"])
    with capsys.disabled():
        print("\n" + json.dumps({"tokens": TOKENS, "mib": size >> 20}))
        for name, times in ttft.items():
            ratio = median(np.divide(times, limits))  # each round's own: others use the machine
            row = {"ttft": name, "ms": round(median(times), 1), "to_limit": round(ratio, 3)}
            print(json.dumps(row | {"rounds": np.round(times, 1).tolist()}))
