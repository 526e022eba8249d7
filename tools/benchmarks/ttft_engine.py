"""What ttft.py measures with: a model in transformers whose KV lies in memory of its own, as in a
serving engine, and what that memory takes by plain copies."""

import inspect
import os
import time

os.environ["HF_HUB_OFFLINE"] = "1"

import kvfs
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM
from transformers.cache_utils import DynamicLayer

BLOCK_TOKENS = 16
PIECE_TOKENS = 2048  # computed at once behind cached ones: attention's memory grows with both
# The KV's argument of forward(): "cache" from transformers 5.24 on, "past_key_values" before.
CACHE = "cache"
if CACHE not in inspect.signature(LlamaForCausalLM.forward).parameters:
    CACHE = "past_key_values"
SHAPES = {
    "llama-3.1-8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
    # 10 of its 80 layers: the ratio of prefill to load is that of one layer.
    "llama-3.1-70b-10-layers": {
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 10,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
    "tiny": {
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 1024,
    },
}


class EngineLayer(DynamicLayer):
    """A layer of KV in memory that is there before the prompt is, as in a serving engine."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: str):
        super().__init__()
        self.dtype, self.device, self.is_initialized = dtype, device, True
        self.all_keys = torch.empty(shape, dtype=dtype, device=device)
        self.all_values = torch.empty_like(self.all_keys)
        self.set_length(0)

    def set_length(self, tokens: int) -> None:
        self.length = tokens
        self.keys, self.values = self.all_keys[:, :, :tokens], self.all_values[:, :, :tokens]

    def update(self, key_states, value_states, *_args, **_kwargs):
        end = self.length + key_states.shape[-2]
        self.all_keys[:, :, self.length : end] = key_states
        self.all_values[:, :, self.length : end] = value_states
        self.set_length(end)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.length


class Engine:
    def __init__(self, shape: str, device: str, max_tokens: int):
        self.device = device
        self.config = LlamaConfig(
            **SHAPES[shape], max_position_embeddings=max_tokens + BLOCK_TOKENS, rope_theta=500000.0
        )
        dtype = torch.bfloat16
        torch.manual_seed(1)
        torch.set_default_dtype(dtype)
        with torch.device(device):
            self.model = LlamaForCausalLM(self.config).eval()
        torch.set_default_dtype(torch.float32)
        c = self.config
        layer_shape = (1, c.num_key_value_heads, max_tokens + BLOCK_TOKENS, c.head_dim)
        self.cache = DynamicCache()
        self.cache.layer_class_to_replicate = None
        self.cache.layers = [
            EngineLayer(layer_shape, dtype, device) for _ in range(c.num_hidden_layers)
        ]
        self.shape, self.dtype = shape, dtype
        self.pages = kvfs.Pages(
            keys=[layer.all_keys for layer in self.cache.layers],
            values=[layer.all_values for layer in self.cache.layers],
            layout="1 heads tokens dim",
        )
        for index, layer in enumerate(self.model.model.layers):
            layer.register_forward_pre_hook(lambda *_, index=index: self.before_layer(index))
        self.loading: kvfs.Transfer | None = None

    def geometry(self, encoding: str) -> kvfs.Geometry:
        c = self.config
        group = kvfs.Group(c.num_hidden_layers, c.num_key_value_heads, c.head_dim)
        return kvfs.Geometry(
            self.shape, self.dtype, group, block_tokens=BLOCK_TOKENS, encoding=encoding
        )

    def synchronize(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()

    def stream(self) -> int:
        return 0 if self.device == "cpu" else torch.cuda.current_stream().cuda_stream

    def before_layer(self, index: int) -> None:
        if self.loading is not None:
            self.loading.wait_layers(index + 1)
            self.arrived = time.perf_counter()

    @torch.inference_mode()
    def forward(
        self, ids: torch.Tensor, after: int, loading: kvfs.Transfer | None = None
    ) -> torch.Tensor:
        """Logits after the last of `ids`, which follow `after` tokens of the cache; each layer
        waits for what `loading` brings of it."""
        for layer in self.cache.layers:
            layer.set_length(after)
        self.arrived = time.perf_counter()
        self.loading = loading
        output = self.model(input_ids=ids, use_cache=True, logits_to_keep=1, **{CACHE: self.cache})
        self.loading = None
        return output.logits[0, -1]

    def go_on(self, ids: torch.Tensor, after: int, loading: kvfs.Transfer | None) -> torch.Tensor:
        """forward() of what follows a cached prefix, in pieces; of one token where all is cached."""
        if after == 0:
            return self.forward(ids, 0)
        for piece in ids.split(PIECE_TOKENS, 1):
            logits = self.forward(piece, after, loading)
            after, loading = after + piece.shape[1], None
        return logits

    def forward_by_math(self, ids: torch.Tensor, after: int) -> torch.Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            return self.forward(ids, after)

    def halves(self, tokens: int) -> list[torch.Tensor]:
        """K and V of each layer, of that many tokens: [1, heads, tokens, dim]."""
        both = [t for layer in self.cache.layers for t in (layer.all_keys, layer.all_values)]
        return [t[:, :, :tokens] for t in both]

    def put(self, kv: list[torch.Tensor]) -> None:
        for half, numbers in zip(self.halves(kv[0].shape[2]), kv, strict=True):
            half.copy_(numbers)

    def give_back(self) -> None:
        """What a prefill took and torch keeps is wanted by the store's GPU tier, another process."""
        if self.device != "cpu":
            torch.cuda.empty_cache()

    def wipe(self) -> None:
        for layer in self.cache.layers:
            layer.all_keys.fill_(float("nan"))
            layer.all_values.fill_(float("nan"))
        self.synchronize()


def timed(engine: Engine, work) -> tuple[float, object]:
    engine.synchronize()
    begin = time.perf_counter()
    result = work()
    engine.synchronize()
    return time.perf_counter() - begin, result


class Link:
    """One large copy from pinned memory: what no load can beat."""

    def __init__(self, engine: Engine):
        self.engine = engine
        pinned = engine.device != "cpu"
        self.source = torch.empty(1 << 30, dtype=torch.uint8, pin_memory=pinned).fill_(1)
        self.to = torch.empty_like(self.source, device=engine.device)
        self.speed()

    def speed(self) -> float:
        """Bytes a second."""
        copy = timed(self.engine, lambda: self.to.copy_(self.source, non_blocking=True))[0]
        return self.source.numel() / copy


class TorchCopy:
    """What an engine without a store of its own does: a pinned tensor for each layer's K and V."""

    def __init__(self, engine: Engine, tokens: int):
        self.engine = engine
        self.to = engine.halves(tokens)
        pinned = engine.device != "cpu"
        self.source = [
            torch.empty(t.shape, dtype=t.dtype, pin_memory=pinned).copy_(t) for t in self.to
        ]

    def seconds(self) -> float:
        def copy() -> None:
            for to, source in zip(self.to, self.source, strict=True):
                to.copy_(source, non_blocking=True)

        return timed(self.engine, copy)[0]
