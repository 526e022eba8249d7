"""Models and adapters made of a real model: of its shape, with other weights."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

RANK = 8
_ADAPTED = ("q_proj", "k_proj", "v_proj")


def fine_tuned(model: Path, directory: Path) -> Path:
    """In `directory`, under the same name: its first layer has other weights."""
    made = shutil.copytree(model, directory / model.name)
    weights = made / "model.safetensors"
    tensors = {
        name: tensor * 1.1 if "layers.0." in name else tensor
        for name, tensor in load_file(weights).items()
    }
    save_file(tensors, weights, metadata={"format": "pt"})
    return made


def adapter(model: Path, path: Path, seed: int) -> Path:
    """A LoRA adapter with random weights, as PEFT saves one, in the directory `path`."""
    path.mkdir(exist_ok=True)
    chance = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, tensor in load_file(model / "model.safetensors").items():
        layer, _, _ = name.rpartition(".weight")
        if layer.endswith(_ADAPTED):
            out, into = tensor.shape
            begin = f"base_model.model.{layer}"
            tensors[f"{begin}.lora_A.weight"] = torch.randn(RANK, into, generator=chance) / 8
            tensors[f"{begin}.lora_B.weight"] = torch.randn(out, RANK, generator=chance) / 16
    save_file(tensors, path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": _ADAPTED}
    (path / "adapter_config.json").write_text(json.dumps(config))
    return path
