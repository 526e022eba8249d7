"""Engines in processes of their own, and what to give them."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

HERE = Path(__file__).parent


def kvfs_on(path, role="kv_both") -> dict:
    """What vLLM is told to use kvfs."""
    return {
        "kv_connector": "KvfsConnector",
        "kv_connector_module_path": "kvfs.vllm",
        "kv_role": role,
        "kv_connector_extra_config": {"path": str(path)},
    }


def tiering_on(path, memory: int) -> dict:
    """vLLM's own tiering offload: so many bytes of host memory, and files below."""
    return {
        "kv_connector": "OffloadingConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {
            "spec_name": "TieringOnCpu",
            "spec_module_path": "tiering_on_cpu",
            "cpu_bytes_to_use": memory,
            "secondary_tiers": [{"type": "fs", "root_dir": str(path)}],
        },
    }


class EngineRun:
    """A vLLM process that does steps (engine.py), each under a name, and what it said."""

    def __init__(self, directory: Path, name: str, model: Path, transfer, steps, options, more=()):
        self._log = directory / f"{name}.log"
        self._names = list(steps)
        request = directory / f"{name}.json"
        request.write_text(
            json.dumps(
                {
                    "model": str(model),
                    "transfer": transfer,
                    "options": options,
                    "steps": list(steps.values()),
                }
            )
        )
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, HERE / "engine.py", request],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | dict(more),
                start_new_session=True,
            )

    def end(self) -> None:
        """By force where it has not ended, with the processes that it has started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def line(self) -> dict:
        text = self.process.stdout.readline()
        if not text:
            self.process.wait()
            pytest.fail(f"the engine ended early; its log:\n{self.log()[-8000:]}")
        return json.loads(text)

    def has_said_something(self, timeout: float) -> bool:
        """Whether there is a line to be read, or it has ended."""
        return bool(select.select([self.process.stdout], [], [], timeout)[0])

    def until_step(self, file: Path) -> None:
        """Waits until the engine waits for `file`."""
        assert self.line() == {"reached": str(file)}

    def results(self) -> SimpleNamespace:
        """The steps' results by name, when it has ended well."""
        results = self.line()["results"]
        assert self.process.wait(120) == 0, self.log()[-8000:]
        return SimpleNamespace(**dict(zip(self._names, results, strict=True)))

    def log(self) -> str:
        return self._log.read_text()


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return chosen.getsockname()[1]


def model_of(variable: str) -> Path:
    path = Path(os.environ.get(variable, ""))
    if not (path / "config.json").exists():
        pytest.fail(f"{variable} is not a model's directory: run tools/engine-test")
    return path


def tokens_of(model: Path) -> list[int]:
    """A real text's, with what the model wants at its beginning."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokens = tokenizer((HERE.parent.parent / "LICENSE").read_text()).input_ids
    begin = tokenizer.bos_token_id
    return tokens if begin is None or tokens[0] == begin else [begin, *tokens]
