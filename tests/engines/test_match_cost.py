"""What the connector costs vLLM's scheduler, without an engine around it."""

import time
from types import SimpleNamespace

import kvfs
import numpy as np
import pytest
from kvfs.vllm.scheduler import Scheduler

TOKENS = 32_768
ROUNDS = 300


def microseconds(call, arguments):
    """p50 and p99 of call(argument)."""
    taken = []
    for argument in arguments:
        began = time.perf_counter()
        call(argument)
        taken.append(1e6 * (time.perf_counter() - began))
    taken.sort()
    return taken[len(taken) // 2], taken[len(taken) * 99 // 100]


@pytest.mark.parametrize("block_tokens", [16, 128])
def test_match_of_32k_tokens(daemon, capsys, block_tokens):
    geometry = kvfs.Geometry("m", "float16", kvfs.Group(1, 1, 8), block_tokens=block_tokens)
    kvfs.create_namespace(daemon.mount, f"match-{block_tokens}", geometry)
    tokens = np.random.default_rng(1).integers(0, 100_000, TOKENS).tolist()
    with kvfs.open(daemon.mount, f"match-{block_tokens}", geometry) as namespace:
        with namespace.reserve(tokens) as reservation:
            kv = np.zeros((1, 2, TOKENS, 1, 8), np.float16)
            reservation.store(kvfs.Pages(kv, "layers kv tokens heads dim"))
            reservation.commit()
        scheduler = Scheduler(namespace)
        requests = [
            SimpleNamespace(
                request_id=str(number),
                prompt_token_ids=tokens,
                all_token_ids=tokens,
                num_tokens=TOKENS,
                num_prompt_tokens=TOKENS,
            )
            for number in range(ROUNDS)
        ]
        add = microseconds(scheduler.add, requests)
        match = microseconds(lambda request: scheduler.match(request, 0), requests)
        assert scheduler.match(requests[0], 0) == TOKENS
        scheduler.close()
    with capsys.disabled():
        print(f"\n  {TOKENS} tokens in blocks of {block_tokens}, p50 / p99:", end=" ")
        print(f"match {match[0]:.0f} / {match[1]:.0f} us", end=", ")
        print(f"reading a new request {add[0]:.0f} / {add[1]:.0f} us")
    assert match[0] < 5000  # a busy machine's; nearly idle it is under 100
