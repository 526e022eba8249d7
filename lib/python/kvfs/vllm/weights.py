"""Files of weights, named by what is in them. No vLLM import."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger("vllm.kvfs")

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


def adapter(lora) -> str | None:
    """16 hex digits of a LoRARequest's local files, as they were when the engine first asked. None:
    they are others now, or cannot be read, and which of them vLLM has, and when it reads them anew,
    only vLLM knows; but for a request with which it is told to (`load_inplace`)."""
    key = lora.lora_int_id, lora.lora_path
    try:
        files = _adapter_files(Path(lora.lora_path).expanduser())
        stamp = [(file.name, *_stamp(file)) for file in files]
        if key not in _adapters or getattr(lora, "load_inplace", False):
            _adapters[key] = _digest(files), stamp
    except (OSError, RuntimeError) as error:  # RuntimeError: ~nobody
        return _uncached(key, str(error))
    digest, known = _adapters[key]
    if known != stamp:
        return _uncached(
            key,
            "its files are others than when it was first used; start the engine anew, or have it "
            "read them by a request with load_inplace",
        )
    _said.discard(key)
    return digest


# By vLLM's number and path: the digest of an adapter's files, and their stamps when it was made.
_adapters: dict[tuple[int, str], tuple[str, list]] = {}
_said: set[tuple[int, str]] = set()  # that it is not cached


def _uncached(key: tuple[int, str], why: str) -> None:
    if key not in _said:
        logger.warning("kvfs: requests with adapter %s are not cached: %s", key[1], why)
    _said.add(key)


def _adapter_files(directory: Path) -> list[Path]:
    """Those that vLLM reads; none of an adapter that is not on this machine."""
    if not directory.is_dir():
        return []
    return sorted([*directory.glob("adapter_config.json"), *directory.glob("adapter_model.*")])


def _stamp(file: Path) -> tuple[int, int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        for piece in _samples(file, max(_PIECES // len(files), 16)):
            digest.update(piece)
    return digest.hexdigest()[:16]


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
