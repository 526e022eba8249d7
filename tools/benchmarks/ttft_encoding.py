"""How blocks are stored (kvfs.Geometry's encodings): what that promises of the numbers that come
back, and how much sooner than computed they have to be there."""

import torch

ENCODINGS = ("raw", "packed", "fp8", "int8")
EXACT = ("raw", "packed")  # every bit comes back
LARGEST = {"fp8": 448.0, "int8": 127.0}  # what a plane's largest number is scaled to
LEAST_RATIO = {"raw": 1 / 1.05, "gpu": 1 / 1.15}  # limit / value of raw blocks, of the GPU tier
# cold / value, by shape and tokens.
LEAST_SPEEDUPS = {
    "llama-3.1-8b": {
        32768: {"raw": 11, "packed": 14, "fp8": 18},
        131072: {"raw": 23, "packed": 28, "fp8": 35},
    },
    "llama-3.1-70b-10-layers": {32768: {"raw": 25}, 131072: {"raw": 50}},
}


def targets(shape: str, tokens: int, encoding: str, ratio: float, speedup: float) -> dict:
    """What a row has to say of its targets: nothing where there are none. `encoding` is gpu where
    the blocks came out of the GPU tier."""
    least = {"target": LEAST_RATIO[encoding]} if encoding in LEAST_RATIO else {}
    reached = {"target": ratio, "speedup_target": speedup}
    if least_speedup := LEAST_SPEEDUPS.get(shape, {}).get(tokens, {}).get(encoding):
        least["speedup_target"] = least_speedup
    met = {"met": all(reached[name] >= value for name, value in least.items())} if least else {}
    return least | met


def rounding(numbers: torch.Tensor, encoding: str) -> torch.Tensor:
    """The most by which each of [..., tokens, dim] numbers in BF16 may differ once stored, where
    [tokens, dim] are a plane: half a step of its scale (fp8: of the number, which has three bits
    behind its first, or of the smallest there is), and half of the last bit of BF16."""
    size = numbers.float().abs()
    scale = size.amax((-2, -1), keepdim=True).clamp(min=2.0**-100) / LARGEST[encoding]
    step = torch.maximum(size / 16, scale * 2.0**-10) if encoding == "fp8" else scale / 2
    return (step + (size + step) * 2.0**-8) * (1 + 1e-5)  # float32's own rounding


def same_bits(kv: list[torch.Tensor], stored: list[torch.Tensor]) -> bool:
    pairs = zip(kv, stored, strict=True)
    return all(torch.equal(a.view(torch.int16), b.to(a.device).view(torch.int16)) for a, b in pairs)


def compare(
    kv: list[torch.Tensor], stored: list[torch.Tensor], encoding: str, block_tokens: int
) -> dict:
    """Whether KV that was loaded, of tokens in full blocks, is what it has to be."""
    if encoding in EXACT:
        return {"kv_identical": same_bits(kv, stored)}
    within, largest = True, []
    for a, b in zip(kv, stored, strict=True):
        blocks = b.to(a.device).unflatten(2, (-1, block_tokens))
        off = (a.unflatten(2, (-1, block_tokens)).float() - blocks.float()).abs()
        within = within and bool((off <= rounding(blocks, encoding)).all())
        # NaN, which the memory held before the load, wins over every number.
        largest.append(off.max())
    return {
        "kv_within_rounding": within,
        "kv_largest_deviation": float(torch.stack(largest).max()),
    }
