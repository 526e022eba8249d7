"""vLLM's KV events: what is in kvfs beside what is in vLLM's own cache, as a router hears of it."""

from types import SimpleNamespace

import pytest
from engine_runs import tokens_of

BLOCK = 128  # vLLM's on a CPU
STEPS = 40


@pytest.fixture
def router(tmp_path):
    """An endpoint for the engine, and heard(): what it has published since the last time."""
    import msgspec
    import zmq
    from vllm.distributed.kv_events import KVEventBatch

    endpoint = f"ipc://{tmp_path}/events"
    decoder = msgspec.msgpack.Decoder(KVEventBatch)

    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        socket.connect(endpoint)

        def heard():
            events = []
            while socket.poll(500):
                *_, payload = socket.recv_multipart()
                events += decoder.decode(payload).events
            return events

        yield SimpleNamespace(endpoint=endpoint, heard=heard)


def of(events, kind: str, medium: str) -> list:
    return [e for e in events if type(e).__name__ == kind and e.medium == medium]


def test_a_router_hears_what_comes_and_goes(run_engine, make_daemon, model, router, tmp_path):
    daemon = make_daemon(dram="1GiB", nvme=None)
    prompt, go_on = tokens_of(model)[:1500], tmp_path / "removed"
    full = len(prompt) // BLOCK * BLOCK
    steps = {
        "first": {"generate": prompt, "max_tokens": 4},
        "more": {"generate": [9] * 20, "max_tokens": STEPS},  # steps that tell
        "pause": {"wait_for": str(go_on)},
        "others": {"generate": [10] * 20, "max_tokens": STEPS},
    }
    events = {"enable_kv_cache_events": True, "publisher": "zmq", "endpoint": router.endpoint}
    run = run_engine("events", daemon.mount, steps, kv_events_config=events)
    run.until_step(go_on)
    heard = router.heard()
    told = of(heard, "BlockStored", "CPU")
    own = {one for event in of(heard, "BlockStored", "GPU") for one in event.block_hashes}
    names = {}
    for event in told:
        assert event.block_size == BLOCK
        for number, name in enumerate(event.block_hashes):
            begin = number * BLOCK
            names[name] = (event.parent_block_hash, event.token_ids[begin : begin + BLOCK])
            event.parent_block_hash = name
    assert names.keys() <= own
    # From the prompt's last full block to its first.
    last = next(name for name, (_, block) in names.items() if block == prompt[full - BLOCK : full])
    chain, found = [], last
    while found is not None:
        chain.append(found)
        found = names[found][0]
    assert [names[name][1] for name in reversed(chain)] == [
        prompt[begin : begin + BLOCK] for begin in range(0, full, BLOCK)
    ]
    assert not of(heard, "BlockRemoved", "CPU")

    removed = 0
    for file in daemon.mount.glob("*/*.safetensors"):
        file.unlink()
        removed += 1
    assert removed
    go_on.touch()
    gone = {one for e in of(router.heard(), "BlockRemoved", "CPU") for one in e.block_hashes}
    run.results()
    gone |= {one for e in of(router.heard(), "BlockRemoved", "CPU") for one in e.block_hashes}
    assert set(chain) <= gone
