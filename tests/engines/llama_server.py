"""llama.cpp's server in a process of its own."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from engine_runs import HERE, free_port


class LlamaServer:
    """One slot, which is saved to and restored from files in `directory`."""

    def __init__(self, model: Path, directory: Path, log: Path):
        self._url = f"http://127.0.0.1:{(port := free_port())}"
        command = [sys.executable, HERE / "llama.py", model, directory, str(port)]
        with log.open("w") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        deadline = time.monotonic() + 120
        while not self._is_up():
            assert self._process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)

    def complete(self, prompt: list[int], tokens: int) -> dict:
        """Greedy. `tokens`: of the answer; `computed`: of the prompt; `ms` until the first token."""
        request = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "seed": 1}
        status, answer = self._post("/completion", request | {"return_tokens": True})
        assert status == 200, answer
        timings = answer["timings"]
        return {
            "tokens": answer["tokens"],
            "computed": timings["prompt_n"],
            "ms": timings["prompt_ms"],
        }

    def save(self, name: str) -> int:
        """The bytes written."""
        status, answer = self._post("/slots/0?action=save", {"filename": name})
        assert status == 200, answer
        return answer["n_written"]

    def restore(self, name: str) -> int:
        """The tokens found; 0: it refused."""
        status, answer = self._post("/slots/0?action=restore", {"filename": name})
        return answer["n_restored"] if status == 200 else 0

    def forget(self) -> None:
        status, answer = self._post("/slots/0?action=erase", {})
        assert status == 200, answer

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)

    def _is_up(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/health", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def _post(self, path: str, body: dict) -> tuple[int, dict]:
        request = urllib.request.Request(
            self._url + path,
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, {"error": error.read().decode(errors="replace")}
