"""vLLM with LMCache, whose server keeps its second level on a mount by kvfs.lmcache."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time

import pytest
from engine_runs import tokens_of

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("lmcache") is None, reason="LMCache is not installed"
)

CHUNK = 256  # LMCache's, and two of vLLM's blocks on a CPU
# LMCache's keys are Python hashes; and it tells nobody that it ran.
ENVIRONMENT = {"PYTHONHASHSEED": "0", "LMCACHE_TRACK_USAGE": "false"}


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return chosen.getsockname()[1]


class Server:
    """An `lmcache server` with kvfs below it."""

    def __init__(self, mount, log):
        self.port = free_port()
        adapter = {
            "type": "plugin",
            "module_path": "kvfs.lmcache",
            "class_name": "KvfsL2Adapter",
            "adapter_params": {"path": str(mount)},
        }
        command = [sys.executable, "-m", "lmcache.cli.main", "server"]
        command += ["--port", self.port, "--http-port", free_port()]
        command += ["--prometheus-port", free_port(), "--chunk-size", CHUNK]
        command += ["--l1-size-gb", 1, "--eviction-policy", "LRU"]
        command += ["--supported-transfer-mode", "engine_driven"]
        command += ["--l2-adapter", json.dumps(adapter)]
        self._log = log
        with log.open("w") as output:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdout=output,
                stderr=output,
                env=os.environ | ENVIRONMENT,
            )

    def wait(self):
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.1)
        raise AssertionError(f"the server did not start:\n{self._log.read_text()[-8000:]}")

    def stop(self):
        self._process.terminate()
        self._process.wait(120)


def transfer(port):
    return {
        "kv_connector": "LMCacheMPConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {
            "lmcache.mp.host": "tcp://localhost",
            "lmcache.mp.port": port,
        },
    }


def test_what_one_server_stored_the_next_one_has(run_engine, make_daemon, model, tmp_path):
    daemon = make_daemon(dram="512MiB", nvme=None)
    prompt = tokens_of(model)[:1100]
    chunks = len(prompt) // CHUNK
    steps = {"answer": {"generate": prompt, "max_tokens": 24}}
    plain = run_engine("lmcache-plain", None, steps).results().answer

    def run(name):
        server = Server(daemon.mount, tmp_path / f"{name}.log").wait()
        try:
            results = run_engine(
                f"lmcache-{name}",
                None,
                steps,
                transfer=transfer(server.port),
                environment=ENVIRONMENT | {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"},
            ).results()
            deadline = time.monotonic() + 60  # the server stores behind the request
            while blocks(daemon) < chunks and time.monotonic() < deadline:
                time.sleep(0.1)
        finally:
            server.stop()
        return results.answer

    stored, loaded = run("stored"), run("loaded")
    assert blocks(daemon) >= chunks
    assert stored["tokens"] == loaded["tokens"] == plain["tokens"]
    assert stored["cached"] == 0
    assert loaded["cached"] == chunks * CHUNK


def blocks(daemon) -> int:
    stats = json.loads((daemon.mount / ".kvfs/stats.json").read_text())
    return sum(namespace["blocks"] for namespace in stats["namespaces"])
