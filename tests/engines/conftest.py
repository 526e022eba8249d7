"""Real engines in processes of their own, on a real mount. Run by tools/engine-test, which makes an
environment that has them; elsewhere nothing here is collected."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

HERE = Path(__file__).parent

if importlib.util.find_spec("vllm") is None:
    collect_ignore_glob = ["test_*"]


class EngineRun:
    """A vLLM process that does steps (engine.py), each under a name, and what it said."""

    def __init__(self, directory: Path, name: str, model: Path, path, steps, options=None):
        self._log = directory / f"{name}.log"
        self._names = list(steps)
        request = directory / f"{name}.json"
        request.write_text(
            json.dumps(
                {
                    "model": str(model),
                    "path": str(path) if path else None,
                    "steps": list(steps.values()),
                    "options": options,
                }
            )
        )
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, HERE / "engine.py", request],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def line(self) -> dict:
        text = self.process.stdout.readline()
        if not text:
            self.process.wait()
            pytest.fail(f"the engine ended early; its log:\n{self.log()[-8000:]}")
        return json.loads(text)

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


@pytest.fixture(scope="session")
def model() -> Path:
    """SmolLM2-135M-Instruct as tools/engine-test unpacks it."""
    path = Path(os.environ.get("KVFS_ENGINE_MODEL", ""))
    if not (path / "config.json").exists():
        pytest.fail("KVFS_ENGINE_MODEL is not a model's directory: run tools/engine-test")
    return path


@pytest.fixture(scope="session")
def text_tokens(model) -> list[int]:
    """A real text's tokens."""
    from transformers import AutoTokenizer

    text = (HERE.parent.parent / "LICENSE").read_text()
    return AutoTokenizer.from_pretrained(model)(text).input_ids


@pytest.fixture(scope="module")
def run_engine(tmp_path_factory, model):
    """run_engine(name, path, steps) -> an EngineRun, ended after the module."""
    directory = tmp_path_factory.mktemp("engines")
    runs = []

    def run(name, path, steps, options=None) -> EngineRun:
        runs.append(EngineRun(directory, name, model, path, steps, options))
        return runs[-1]

    yield run
    for started in runs:
        if started.process.poll() is None:
            started.process.kill()
            started.process.wait()
