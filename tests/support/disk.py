"""A disk that a test can stop: a directory served by a process of its own."""

import os
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from support.daemon import Daemon


class Disk:
    """Shows the directory `back` at `mount`; while it is stopped no request to it is answered."""

    def __init__(self, bin_dir: Path, back: Path, mount: Path):
        back.mkdir(exist_ok=True)
        mount.mkdir(exist_ok=True)
        self.mount = mount
        self.process = subprocess.Popen([bin_dir.parent / "tests/disk_server", back, mount])
        deadline = time.monotonic() + 20
        while not os.path.ismount(mount):
            assert self.process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)  # until all its threads have

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """What still waits for it gets an error."""
        self.process.kill()
        self.process.wait()
        if os.path.ismount(self.mount):
            subprocess.run(["umount", "-l", self.mount], check=True)


@contextmanager
def daemon_on_disk(bin_dir: Path, **options):
    """(daemon, disk): a Daemon with these options, started, whose NVMe directory is on the disk."""
    parent = os.environ.get("TMPDIR", "/var/tmp")
    with tempfile.TemporaryDirectory(prefix="kvfs-test.", dir=parent) as path:
        root = Path(path)
        daemon = Daemon(bin_dir, root, **options)
        disk = Disk(bin_dir, root / "back", daemon.disk)
        try:
            yield daemon.start(), disk
        finally:
            disk.go_on()
            daemon.remove()
            disk.remove()
