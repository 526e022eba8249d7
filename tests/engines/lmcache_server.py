"""LMCache's server, and what vLLM is told to use it."""

import http.client
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time

from engine_runs import free_port

INSTALLED = importlib.util.find_spec("lmcache") is not None
CHUNK = 256  # LMCache's, and two of vLLM's blocks on a CPU
# LMCache's keys are Python hashes; and it tells nobody that it ran.
ENVIRONMENT = {"PYTHONHASHSEED": "0", "LMCACHE_TRACK_USAGE": "false"}


class Server:
    """An `lmcache server` with this second level; `more`: of its options."""

    def __init__(self, adapter, log, more=()):
        self.port, self._http_port = free_port(), free_port()
        command = [sys.executable, "-m", "lmcache.cli.main", "server"]
        command += ["--port", self.port, "--http-port", self._http_port]
        command += ["--prometheus-port", free_port(), "--chunk-size", CHUNK]
        command += ["--l1-size-gb", 1, "--eviction-policy", "LRU"]
        command += ["--supported-transfer-mode", "engine_driven"]
        command += ["--l2-adapter", json.dumps(adapter), *more]
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

    def forget(self):
        """Empties its memory: what is asked for comes from the second level."""
        self._ask("POST", "/cache/clear")

    def storage(self) -> dict:
        """What it says of its memory and second levels."""
        return json.loads(self._ask("GET", "/status"))["storage_manager"]

    def _ask(self, method, path) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self._http_port, timeout=60)
        connection.request(method, path)
        answer = connection.getresponse()
        assert answer.status == http.HTTPStatus.OK
        body = answer.read()
        connection.close()
        return body

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
