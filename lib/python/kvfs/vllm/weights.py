"""Files of weights, named by what is in them. No vLLM import."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
# Of a file its first and last bytes, and pieces between them: of all files together so many, so
# that other weights in files of the same sizes are seen.
_SAMPLE = 1 << 16
_PIECE = 1 << 12
_PIECES = 1024


def samples(path: Path) -> Iterator[bytes]:
    """Names, sizes and samples of the bytes of a local model's files; nothing where none are."""
    files = _files(path)
    for file in files:
        yield from _samples(file, max(_PIECES // len(files), 16))


def adapter(lora) -> str:
    """16 hex digits of a LoRARequest's local files, as they are when the engine first asks: vLLM
    keeps what it has read then, unless it is told to read it with each request."""
    if getattr(lora, "load_inplace", False):
        return _adapter(lora.lora_path)
    return _adapter_once(lora.lora_int_id, lora.lora_path)


def _adapter(path: str) -> str:
    directory = Path(path).expanduser()
    config = directory / "adapter_config.json"
    digest = hashlib.sha256(config.read_bytes() if config.exists() else b"")
    for piece in samples(directory):
        digest.update(piece)
    return digest.hexdigest()[:16]


@functools.lru_cache(maxsize=1024)
def _adapter_once(number: int, path: str) -> str:
    return _adapter(path)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.glob("*") if file.suffix in _SUFFIXES)


def _samples(file: Path, pieces: int) -> Iterator[bytes]:
    size = file.stat().st_size
    with file.open("rb", buffering=0) as stream:
        yield f"{file.name} {size} ".encode() + stream.read(_SAMPLE)
        for piece in range(1, pieces):
            stream.seek(size * piece // pieces)
            yield stream.read(_PIECE)
        stream.seek(max(size - _SAMPLE, 0))
        yield stream.read(_SAMPLE)
