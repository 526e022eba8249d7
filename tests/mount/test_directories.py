"""Listing while entries come and go, and numbers that stay."""

import contextlib
import os
import threading

from populate import make_tokens, run, store_prefix
from raw_client import hex_of


def test_many_entries_once_each(ns):
    keys = store_many(ns, 3000)
    listed = os.listdir(ns.path)
    assert len(listed) == len(set(listed)) == 3000
    assert {name.split(".")[0] for name in listed} == keys
    with os.scandir(ns.path) as entries:
        inodes = {entry.name: entry.inode() for entry in entries}
    assert all(
        os.stat(f"{ns.path}/{name}").st_ino == inode for name, inode in list(inodes.items())[:50]
    )
    assert len(run("ls", "-l", ns.path).splitlines()) == 3001
    assert len(run("find", ns.path, "-name", "*.safetensors", "-size", "+1k").split()) == 3000


def store_many(ns, count: int, seed: int = 0) -> set[str]:
    """One-block prefixes; their bytes do not matter here."""
    from raw_client import Reservation

    keys = set()
    tokens = make_tokens(count, seed)
    for i in range(count):
        with Reservation(ns) as reservation:
            reservation.reserve(tokens[16 * i : 16 * (i + 1)])
            keys.add(hex_of(reservation.commit(1)[2]))
    return keys


def test_listing_under_churn(ns):
    """What is there from the first to the last call is listed exactly once."""
    stay = store_many(ns, 400, seed=1)
    stop = threading.Event()

    def churn() -> None:
        seed = 100
        while not stop.is_set():
            for key in store_many(ns, 20, seed):
                os.unlink(f"{ns.path}/{key}.safetensors")
            seed += 1

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(20):
            names = [name.split(".")[0] for name in os.listdir(ns.path)]
            assert len(names) == len(set(names))
            assert stay <= set(names)
            with_attributes = set()
            with os.scandir(ns.path) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                        assert entry.stat().st_size > 0
                        with_attributes.add(entry.name.split(".")[0])
            assert stay <= with_attributes
    finally:
        stop.set()
        thread.join()
    assert {name.split(".")[0] for name in os.listdir(ns.path)} == stay


def test_removing_while_listing(ns):
    store_many(ns, 1000, seed=2)
    with os.scandir(ns.path) as entries:
        for entry in entries:
            os.unlink(entry.path)
    assert os.listdir(ns.path) == []


def test_dot_and_dot_dot(daemon, ns):
    assert os.stat(f"{ns.path}/..").st_ino == os.stat(daemon.mount).st_ino
    assert run("ls", "-a", ns.path).split()[:2] == [".", ".."]


def test_numbers_stay_over_a_restart(daemon, ns, prefix):
    os.symlink(os.path.basename(prefix.path), f"{ns.path}/name")
    paths = [
        ns.path,
        prefix.path,
        f"{ns.path}/name",
        f"{ns.path}/.kvfs",
        f"{ns.path}/.kvfs/index",
        daemon.mount,
    ]
    before = [os.lstat(path).st_ino for path in paths]
    assert len(set(before)) == len(before)
    ns.close()
    daemon.stop()
    daemon.start()
    assert [os.lstat(path).st_ino for path in paths] == before
    ns.__init__(ns.path)  # the fixture closes it
    with open(prefix.path, "rb") as file:
        assert len(file.read()) == os.path.getsize(prefix.path)


def test_missing_names(ns):
    for name in (
        "nothing",
        "0" * 32 + ".safetensors",
        ".kvfs/nothing",
        ".kvfs/slabs/99",
        ".kvfs/slabs/x",
    ):
        assert not os.path.lexists(f"{ns.path}/{name}")
    store_prefix(ns, 1)
