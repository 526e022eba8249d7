"""read_file.py WORK FILE: a prefix file as the stock safetensors package reads it."""

import sys

from safetensors import safe_open
from transformers import AutoTokenizer

work, path = sys.argv[1:]
with safe_open(path, framework="pt") as file:
    for name in file.keys():  # noqa: SIM118 (not a dict)
        part = file.get_slice(name)
        print(f"{name:<10} {part.get_dtype():<4} {part.get_shape()}")
    tokens = file.get_tensor("tokens")[:24]
print(f"tokens begin: {AutoTokenizer.from_pretrained(work + '/model').decode(tokens)!r}")
