"""Plain directories of a mount: they are made; what the daemon says of them, and when."""

import json
import os
import time
from pathlib import Path


def plain_directory(daemon, name: str, quota: int | str, unit: str = "file") -> Path:
    path = daemon.mount / name
    path.mkdir()
    set_quota(path, quota)
    if unit != "file":
        os.setxattr(path, "user.kvfs.unit", unit.encode())
    return path


def set_quota(path: Path, quota: int | str) -> None:
    os.setxattr(path, "user.kvfs.quota", str(quota).encode())


def statistics(daemon, name: str) -> dict:
    """What .kvfs/stats.json says of one plain directory."""
    plain = json.loads((daemon.mount / ".kvfs/stats.json").read_text())["plain"]
    return next(one for one in plain["directories"] if one["name"] == name)


def until(condition, timeout: float = 20) -> None:
    give_up = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < give_up, f"it did not come: {condition.__name__}"
        time.sleep(0.01)


def settled(daemon) -> None:
    """Every file is closed and has its checksum. The kernel tells of a close a moment later."""

    def nothing_waits() -> bool:
        stats = json.loads((daemon.mount / ".kvfs/stats.json").read_text())
        return stats["fuse"]["open_files"] == 0 and stats["plain"]["checksums_queued"] == 0

    until(nothing_waits)
    time.sleep(0.1)  # one that was just closed may be on its way to its checksum
    until(nothing_waits)
