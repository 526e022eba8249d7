"""kvfs.transformers around a real model's generate()."""

import inspect

import kvfs.transformers
import torch
from engine_runs import tokens_of
from transformers import AutoModelForCausalLM, LlamaForCausalLM

# The cache's argument of generate(), as of forward(): its name changes with transformers' versions.
CACHE = "past_key_values"
if CACHE not in inspect.signature(LlamaForCausalLM.forward).parameters:
    CACHE = "cache"


def generate(model, prompt, cache):
    return model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=20,
        do_sample=False,
        pad_token_id=0,
        **{CACHE: cache},
    )


def test_generate_continues_what_was_saved(daemon, model):
    llama = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    prompt = torch.tensor([tokens_of(model)[:200]])
    cache = kvfs.transformers.load(daemon.mount, llama, prompt)
    assert cache.get_seq_length() == 0
    output = generate(llama, prompt, cache)
    kvfs.transformers.save(daemon.mount, llama, output, cache)
    loaded = kvfs.transformers.load(daemon.mount, llama, prompt)
    assert loaded.get_seq_length() == 192
    assert torch.equal(generate(llama, prompt, loaded), output)
    # The answer is there, too: a conversation goes on from it.
    assert kvfs.transformers.load(daemon.mount, llama, output).get_seq_length() == 208
