"""warm.py WORK DOCUMENT MOUNT RESULT: loads the document's KV and answers the second question."""

import sys
import time
from pathlib import Path

import kvfs
import torch
from model import NAMESPACE, QUESTIONS, DynamicCache, Model

work, document, mount, result = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
model = Model(work / "model", document)
prompt = model.prompt(QUESTIONS["second"])

with kvfs.open(mount, NAMESPACE, model.geometry()) as namespace:
    begin = time.perf_counter()
    match = namespace.match(prompt)
    matched = time.perf_counter()
    with namespace.acquire(match) as lease:
        keys, values = model.empty_kv(lease.tokens)
        pages = kvfs.Pages(keys=keys, values=values, layout="1 heads tokens dim")
        lease.load(pages, stream=model.stream())
    loaded = time.perf_counter()
    answer = model.answer(prompt[match.tokens :], DynamicCache(zip(keys, values, strict=True)))

assert match.tokens == model.shared, f"{match.tokens} of {model.shared} tokens were cached"
size = match.blocks * model.geometry().block_bytes()
answer |= {
    "ttft": answer["first_token_at"] - begin,
    "match": matched - begin,
    "load": loaded - matched,
    "bytes": size,
    "dram_blocks": match.dram_blocks,
    "blocks": match.blocks,
}
torch.save(answer, work / f"{result}.pt")
print(
    f"{match.blocks} blocks matched, {match.dram_blocks} in DRAM; {size / 1e6:.0f} MB loaded "
    f"in {answer['load']:.3f} s; first token after {answer['ttft']:.2f} s"
)
print(f'"{answer["text"]}"')
