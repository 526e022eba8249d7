"""cold.py WORK DOCUMENT MOUNT: computes the KV, answers, stores the KV."""

import sys
import time
from pathlib import Path

import kvfs
import torch
from model import NAMESPACE, QUESTIONS, DynamicCache, Model

work, document, mount = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
model = Model(work / "model", document)
prompt = model.prompt(QUESTIONS["first"])
kvfs.create_namespace(mount, NAMESPACE, model.geometry())

with kvfs.open(mount, NAMESPACE, model.geometry()) as namespace:
    begin = time.perf_counter()
    assert not namespace.match(prompt), "a new store has nothing"
    cache = DynamicCache()
    model.forward(prompt[: model.shared], cache)
    model.synchronize()
    prefilled = time.perf_counter()
    answer = model.answer(prompt[model.shared :], cache)

    # Straight out of the cache's tensors. They hold the question's and the answer's tokens too;
    # the reservation says which blocks are wanted.
    before = time.perf_counter()
    pages = kvfs.Pages(
        keys=[layer.keys for layer in cache.layers],
        values=[layer.values for layer in cache.layers],
        layout="1 heads tokens dim",
    )
    with namespace.reserve(prompt[: model.shared]) as reservation:
        reservation.store(pages, stream=model.stream())
        commit = reservation.commit()
    stored = time.perf_counter() - before

answer |= {"ttft": answer["first_token_at"] - begin, "prefill": prefilled - begin}
torch.save(answer, work / "cold.pt")
size = commit.committed * model.geometry().block_bytes()
print(
    f"first token after {answer['ttft']:.2f} s; "
    f"{commit.committed} blocks ({size / 1e6:.0f} MB) stored in {stored:.3f} s"
)
print(f'"{answer["text"]}"')
