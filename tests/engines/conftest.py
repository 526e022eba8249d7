"""Real engines in processes of their own, on a real mount. Run by tools/engine-test, which makes an
environment that has them; elsewhere nothing here is collected."""

import importlib.util
from pathlib import Path

import pytest
from engine_runs import EngineRun, kvfs_on, model_of

if importlib.util.find_spec("vllm") is None:
    collect_ignore_glob = ["test_*"]


@pytest.fixture(scope="session")
def model() -> Path:
    """SmolLM2-135M-Instruct as tools/engine-test unpacks it."""
    return model_of("KVFS_ENGINE_MODEL")


@pytest.fixture(scope="session")
def hybrid_model() -> Path:
    """Gemma 3 270M: layers with sliding windows beside layers that keep every token."""
    return model_of("KVFS_ENGINE_HYBRID_MODEL")


@pytest.fixture(scope="module")
def run_engine(tmp_path_factory, model):
    """run_engine(name, path, steps, model=..., **LLM's options) -> an EngineRun with KvfsConnector on
    the mount `path`, or with none; ended after the module. `transfer`: another connector;
    `environment`: more of that."""
    directory = tmp_path_factory.mktemp("engines")
    runs = []

    def run(name, path, steps, model=model, transfer=None, environment=(), **options) -> EngineRun:
        transfer = transfer or (kvfs_on(path) if path else None)
        runs.append(EngineRun(directory, name, model, transfer, steps, options, environment))
        return runs[-1]

    yield run
    for started in runs:
        started.end()
