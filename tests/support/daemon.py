"""A kvfsd of a test's own, with everything it touches below one directory."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path


class Daemon:
    """Starts the built kvfsd on a mount point and a store below `root`; ends it and unmounts.

    `flags` are more of kvfsd's own. After stop() or kill() it may be started again on its store.
    """

    def __init__(
        self,
        bin_dir: Path,
        root: Path,
        *,
        dram: str = "256MiB",
        nvme: str | None = "512MiB",
        flags=(),
    ):
        self.root = root
        self.mount = root / "mount"
        self.disk = root / "disk"
        self.log = root / "kvfsd.log"
        self.process: subprocess.Popen | None = None
        self._command = [bin_dir / "kvfsd", "--mountpoint", self.mount, "--dram", dram]
        self._command += ["--run-dir", root / "run", *flags]
        if nvme:
            self._command += ["--nvme", f"{self.disk}:{nvme}"]
        self.mount.mkdir(parents=True, exist_ok=True)
        self.disk.mkdir(exist_ok=True)

    def start(self, timeout: float = 30) -> "Daemon":
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + timeout
        while not self.alive():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise self._failure("kvfsd did not mount")
            time.sleep(0.02)
        return self

    def alive(self) -> bool:
        """Whether a daemon answers; a dead one's names may live on in the kernel's cache."""
        try:
            return bool((self.mount / ".kvfs/version").read_text())
        except OSError:
            return False

    def stop(self, timeout: float = 60) -> None:
        """SIGTERM: writes back, unmounts and ends. By force where that takes too long."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise self._failure(f"kvfsd did not end in {timeout} s") from None
        self.process = None
        self._detach()
        if status not in (0, -signal.SIGTERM):
            raise self._failure(f"kvfsd ended with status {status}")

    def kill(self) -> None:
        """SIGKILL, as a crash; the mount is left stale, as a crash leaves it."""
        self.process.kill()
        self.process.wait()
        self.process = None

    def remove(self) -> None:
        """Ends it whatever its state, and leaves nothing mounted."""
        try:
            if self.process is not None:
                self.stop()
        finally:
            self._detach()

    def control(self, request: dict, namespace: str | None = None) -> dict:
        """One request to the control file of the store or of a namespace; its answer."""
        directory = self.mount / namespace if namespace else self.mount
        descriptor = os.open(directory / ".kvfs/control", os.O_RDWR)
        try:
            os.write(descriptor, json.dumps(request).encode())
            answer = b""
            while piece := os.read(descriptor, 1 << 20):
                answer += piece
        finally:
            os.close(descriptor)
        return json.loads(answer)

    def _failure(self, sentence: str) -> RuntimeError:
        return RuntimeError(f"{sentence}; its log:\n{self.log.read_text()}")

    def _detach(self) -> None:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        for line in reversed(mounts):
            point = line.split()[1].replace("\\040", " ")
            if Path(point).is_relative_to(self.root):
                subprocess.run(["umount", "-l", point], check=True)
