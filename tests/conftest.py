"""What Python tests of several folders share: the built programs and daemons of their own."""

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
    daemons, roots = [], []

    def make(**options) -> Daemon:
        root = Path(tempfile.mkdtemp(prefix="kvfs-test.", dir=os.environ.get("TMPDIR", "/var/tmp")))
        roots.append(root)
        daemons.append(Daemon(bin_dir, root, **options))
        return daemons[-1].start()

    yield make
    try:
        for daemon in daemons:
            daemon.remove()
    finally:
        for root in roots:
            if not os.path.ismount(root / "mount"):
                shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def daemon(make_daemon) -> Daemon:
    """A daemon with a small DRAM and NVMe tier, shared by the module's tests."""
    return make_daemon()
