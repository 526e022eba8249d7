"""Running the kvfs command, and prefixes for it to show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

# The mount's ABI by hand fills namespaces without the Python package.
sys.path.insert(0, str(Path(__file__).parent.parent / "mount"))
from populate import GEOMETRY
from raw_client import Namespace, hex_of
from shared_prefix import make_tokens


@dataclass
class Done:
    status: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


class Command:
    """The kvfs program, with no mount chosen by the environment."""

    def __init__(self, program: Path) -> None:
        self.program = program

    def __call__(self, *arguments: object, status: int | None = 0, **options) -> Done:
        environment = {key: value for key, value in os.environ.items() if key != "KVFS_MOUNT"}
        environment |= options.pop("env", {})
        done = subprocess.run(
            [str(self.program), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            env=environment,
            **options,
        )
        if status is not None:
            assert done.returncode == status, (
                f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return Done(done.returncode, done.stdout, done.stderr)

    def fails(self, status: int, *arguments: object, **options) -> str:
        """The one line on standard error of a command that must fail with `status`."""
        done = self(*arguments, status=status, **options)
        lines = done.err.splitlines()
        assert len(lines) == 1, done.err
        assert lines[0].startswith("kvfs: ")
        return lines[0]


@pytest.fixture(scope="session")
def kvfs(bin_dir) -> Command:
    return Command(bin_dir / "kvfs")


@pytest.fixture
def on_mount(kvfs, daemon):
    """on_mount("ls", ...): a command on this module's own mount."""

    def run(*arguments: object, **options) -> Done:
        return kvfs(*arguments, "--mount", daemon.mount, **options)

    return run


def store(namespace: Namespace, tokens: list[int]) -> str:
    """Stores the prefix; its key in hex."""
    blocks = [
        [bytes([i % 251]) * size for size in namespace.block_bytes]
        for i in range(len(tokens) // 16)
    ]
    return hex_of(namespace.store(tokens, blocks))


@dataclass
class Stored:
    name: str
    shared: list[int]  # the tokens both prefixes begin with
    tokens: dict[str, list[int]]  # by key
    short: str
    long: str


@pytest.fixture
def stored(daemon, request):
    """A namespace with two prefixes, of 6 and 8 blocks, that share their first 4."""
    name = f"ns-{request.node.name[:40]}".replace("[", "-").replace("]", "").replace("/", "-")
    assert daemon.control({"op": "ns_create", "name": name, "geometry": GEOMETRY})["ok"]
    namespace = Namespace(f"{daemon.mount}/{name}")
    shared = make_tokens(4, 1)
    prompts = [shared + make_tokens(2, 2), shared + make_tokens(4, 3)]
    keys = [store(namespace, prompt) for prompt in prompts]
    namespace.close()
    yield Stored(name, shared, dict(zip(keys, prompts, strict=True)), *keys)
    if daemon.alive():
        daemon.control({"op": "ns_remove", "name": name, "force": True})
