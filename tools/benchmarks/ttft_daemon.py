"""A kvfsd of a benchmark's own, in directories that are removed at the end."""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path


class Daemon:
    def __init__(self, options: argparse.Namespace):
        self.bin = options.bin
        # The mount point, the state and the second tier.
        self.root = Path(tempfile.mkdtemp(prefix="kvfs-ttft-", dir=options.nvme))
        self.mount = self.root / "kv"
        self.mount.mkdir()
        self.arguments = [f"--dram={options.dram}", f"--nvme={self.root}/nvme:{options.nvme_size}"]
        self.process = None
        self.gpu = None

    def start(self, gpu: str | None = None) -> None:
        """With a GPU tier where there is one to be."""
        self.gpu = gpu
        log = (self.root / "kvfsd.log").open("a")
        self.process = subprocess.Popen(
            [
                self.bin / "kvfsd",
                self.mount,
                "--foreground",
                f"--state-dir={self.root}/state",
                f"--run-dir={self.root}/run",
                *self.arguments,
                *([f"--gpu={gpu}"] if gpu else []),
            ],
            stdout=log,
            stderr=log,
        )
        until = time.monotonic() + 60
        while not (self.mount / ".kvfs" / "version").exists():
            if self.process.poll() is not None or time.monotonic() > until:
                sys.exit("kvfsd did not start:\n" + (self.root / "kvfsd.log").read_text())
            time.sleep(0.05)

    def stop(self, drop_dram: bool) -> None:
        """After this everything is on the second tier, and with drop_dram nowhere else."""
        command = [self.bin / "kvfs", "umount", self.mount]
        subprocess.run(command + ["--drop-dram"] * drop_dram, check=True, stdout=subprocess.DEVNULL)
        self.process.wait(120)

    def stats(self, namespace: str) -> dict:
        return json.loads((self.mount / namespace / ".kvfs/stats.json").read_text())

    def remove_namespace(self, name: str) -> None:
        command = [self.bin / "kvfs", "ns", "rm", name, "--mount", self.mount]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def remove(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop(drop_dram=True)
        shutil.rmtree(self.root, ignore_errors=True)
