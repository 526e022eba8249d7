"""compare.py WORK: cold and loaded side by side; exits with 1 where what they computed differs."""

import sys
from pathlib import Path

import torch

work = Path(sys.argv[1])
reference, cold, dram, nvme = (
    torch.load(work / f"{name}.pt") for name in ("reference", "cold", "dram", "nvme")
)
if nvme["dram_blocks"]:
    sys.exit(f"{nvme['dram_blocks']} blocks were in DRAM after the restart, none should be")


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms"


rows = [("", "TTFT", "find it", "load or compute it", "then the question", "")]
rest = cold["ttft"] - cold["prefill"]
computed, question = milliseconds(cold["prefill"]), milliseconds(rest)
rows.append(("computed", milliseconds(cold["ttft"]), "", computed, question, ""))
for name, run in (("loaded from DRAM", dram), ("loaded from NVMe", nvme)):
    rest = run["ttft"] - run["match"] - run["load"]
    rows.append(
        (
            name,
            milliseconds(run["ttft"]),
            milliseconds(run["match"]),
            f"{milliseconds(run['load'])} ({run['bytes'] / run['load'] / 1e9:.1f} GB/s)",
            milliseconds(rest),
            f"{cold['ttft'] / run['ttft']:.0f}x",
        )
    )
widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
for row in rows:
    print("  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
print()

different = 0
for name, run, question in (
    ("computed and stored", cold, "first"),
    ("loaded from DRAM", dram, "second"),
    ("loaded from NVMe", nvme, "second"),
):
    expected = reference[question]
    # Bits, not numbers: -0.0 is not 0.0.
    same_logits = torch.equal(run["logits"].view(torch.int32), expected["logits"].view(torch.int32))
    same = same_logits and run["tokens"] == expected["tokens"]
    different += not same
    steps, size = run["logits"].shape
    verdict = "identical" if same else "DIFFERENT"
    what = f"{len(run['tokens'])} tokens, {steps} x {size:,} logits, bit by bit"
    print(f"{name:>20}: {what}: {verdict}")
print(f"{'':>20}  to the run that never stored anything")
first_token = "the same" if reference["one_shot_same_token"] else "another"
print(
    f"(Prefilled in one piece, logits move by {reference['one_shot_difference']:.0e}, from the "
    f"order of float additions alone; {first_token} first token.)"
)
sys.exit(1 if different else 0)
