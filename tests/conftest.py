"""What Python tests of several folders share: the built programs and daemons of their own."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from support.daemon import Daemon


@pytest.fixture(scope="session")
def bin_dir() -> Path:
    """Where kvfsd and kvfs were built: KVFS_BIN_DIR, or the release preset's folder."""
    default = Path(__file__).parent.parent / "build/release/bin"
    path = Path(os.environ.get("KVFS_BIN_DIR", default)).resolve()
    if not (path / "kvfsd").exists():
        pytest.fail(f"{path}/kvfsd is not there: build it, or point KVFS_BIN_DIR at the programs")
    return path


@pytest.fixture(scope="module")
def make_daemon(bin_dir):
    """make_daemon(dram=..., nvme=..., flags=[...]) -> a running Daemon of this module's own."""
    with contextlib.ExitStack() as at_end:  # each of them, also where another's end fails

        def make(**options) -> Daemon:
            parent = os.environ.get("TMPDIR", "/var/tmp")
            root = Path(tempfile.mkdtemp(prefix="kvfs-test.", dir=parent))
            at_end.callback(remove_root, root)
            daemon = Daemon(bin_dir, root, **options)
            at_end.callback(daemon.remove)
            return daemon.start()

        yield make


def remove_root(root: Path) -> None:
    if not os.path.ismount(root / "mount"):
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def daemon(make_daemon) -> Daemon:
    """A daemon with a small DRAM and NVMe tier, shared by the module's tests."""
    return make_daemon()
