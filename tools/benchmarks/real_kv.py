"""real_kv.py MODEL --text FILE...: the KV cache of a real model, as canonical BF16 blocks on stdout.

MODEL is a directory that transformers loads, or one with a GGUF file. Texts are cut into prompts of
--context tokens. The first line on stderr is the geometry, for kvfs-packing's options.
"""

import argparse
import inspect
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TQDM_DISABLE"] = "1"
# Threads that wait do not spin: on a busy machine that would take the time of those that compute.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, GgufConfig

BLOCK_TOKENS = 16


def load(directory: Path):
    options = {}
    if weights := sorted(directory.glob("*.gguf")):
        options["gguf_file"] = weights[0].name
    tokenizer = AutoTokenizer.from_pretrained(directory, **options)
    if weights:
        options["quantization_config"] = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16, **options)
    return model.eval(), tokenizer


def prompts(tokenizer, texts: list[Path], context: int):
    for text in texts:
        ids = tokenizer(text.read_text(errors="replace")).input_ids
        for begin in range(0, len(ids) - context + 1, context):
            cut = ids[begin : begin + context]
            if tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id:
                cut[0] = tokenizer.bos_token_id  # as a prompt has it
            yield cut


@torch.inference_mode()
def blocks(model, tokens: list[int]) -> torch.Tensor:
    """[blocks, kv_heads, layers, 2, block_tokens, head_dim]"""
    cache = DynamicCache()
    name = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
    model(input_ids=torch.tensor([tokens]), use_cache=True, logits_to_keep=1, **{name: cache})
    layers = [torch.stack([layer.keys[0], layer.values[0]]) for layer in cache.layers]
    kv = torch.stack(layers).unflatten(3, (-1, BLOCK_TOKENS))
    return kv.permute(3, 2, 0, 1, 4, 5).contiguous()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--text", type=Path, nargs="+", required=True)
    parser.add_argument("--tokens", type=int, default=100_352)
    parser.add_argument("--context", type=int, default=2048)
    arguments = parser.parse_args()
    if arguments.context % BLOCK_TOKENS != 0:
        parser.error(f"--context must be a multiple of {BLOCK_TOKENS}")
    model, tokenizer = load(arguments.model)
    done = 0
    for cut in prompts(tokenizer, arguments.text, arguments.context):
        if done >= arguments.tokens:
            break
        made = blocks(model, cut)
        if done == 0:
            _, heads, layers, _, tokens, head_dim = made.shape
            print(
                f"--kv-heads {heads} --layers {layers} --block-tokens {tokens}"
                f" --head-dim {head_dim}",
                file=sys.stderr,
                flush=True,
            )
        sys.stdout.buffer.write(made.view(torch.int16).numpy().tobytes())
        done += len(cut)
        print(f"{done} tokens", file=sys.stderr, flush=True)
    if done < arguments.tokens:
        sys.exit(f"the texts have {done} tokens only")


if __name__ == "__main__":
    main()
