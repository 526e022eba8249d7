"""Values under keys, for engines that name KV by hashes of their own."""

import itertools
import threading

import numpy as np
import pytest
from kvfs.blobs import Attempts, Blobs, InParts, ManyBlobs

_numbers = itertools.count()


@pytest.fixture
def blobs(daemon):
    opened = Blobs(daemon.mount, f"blobs-{next(_numbers)}", "test", 4096)
    yield opened
    opened.close()


def value(seed, size=4096):
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def test_a_value_comes_back(blobs):
    target = np.zeros(4096, np.uint8)
    assert not blobs.holds(b"key")
    assert not blobs.get(b"key", target)
    assert blobs.put(b"key", value(1))
    assert blobs.holds(b"key")
    assert blobs.get(b"key", target)
    assert (target == value(1)).all()
    assert not blobs.get(b"another", target)


def test_a_value_is_written_once(blobs):
    assert blobs.put(b"key", value(1))
    assert not blobs.put(b"key", value(2))
    target = bytearray(4096)
    assert blobs.get(b"key", target)
    assert bytes(target) == value(1).tobytes()


def test_what_is_held_stays(blobs, daemon):
    blobs.put(b"key", value(1))
    assert blobs.hold(b"not there") is None
    with blobs.hold(b"key") as lease:
        target = np.zeros(4096, np.uint8)
        lease.load_blocks([target])
    assert (target == value(1)).all()


def test_more_than_fits_evicts_the_oldest(make_daemon):
    daemon = make_daemon(dram="16MiB", nvme=None)
    size = 1 << 20
    opened = Blobs(daemon.mount, "full", "test", size)
    for number in range(40):
        assert opened.put(str(number).encode(), value(number, size))
    target = np.zeros(size, np.uint8)
    assert not opened.get(b"0", target)
    assert opened.get(b"39", target)
    assert (target == value(39, size)).all()
    opened.close()


def test_sizes_have_namespaces_of_their_own(daemon):
    many = ManyBlobs(daemon.mount, "sizes", "test")
    many.of(16).put(b"key", value(1, 16))
    many.of(32).put(b"key", value(2, 32))
    assert many.of(16) is many.of(16)
    target = np.zeros(32, np.uint8)
    assert many.of(32).get(b"key", target)
    assert (target == value(2, 32)).all()
    assert (daemon.mount / "sizes-16").is_dir()
    with pytest.raises(ValueError, match="multiple of 16"):
        many.of(17)
    many.close()


def test_a_buffer_of_another_size_is_refused(blobs):
    blobs.put(b"key", value(1))
    with pytest.raises(ValueError):
        blobs.get(b"key", bytearray(100))


def test_many_threads_put_and_get(blobs):
    wrong = []

    def work(number):
        target = np.zeros(4096, np.uint8)
        for seed in range(20):  # all write the same ones
            blobs.put(str(seed).encode(), value(seed))
            if not blobs.get(str(seed).encode(), target) or (target != value(seed)).any():
                wrong.append((number, seed))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_parts_begin_when_they_are_made_or_not_at_all(monkeypatch):
    """A thread that cannot begin later would leave copies behind that nobody waits for."""
    copies = InParts(3, "test")
    with monkeypatch.context() as without_threads:
        without_threads.setattr(threading.Thread, "start", refuse)
        assert copies(lambda value: 2 * value, [(i,) for i in range(10)]) == list(range(0, 20, 2))
        with pytest.raises(RuntimeError):
            InParts(3, "test")
    copies.close()
    assert not any(thread.name.startswith("test_") for thread in threading.enumerate())


def refuse(_thread):
    raise RuntimeError("can't start new thread")


def test_attempts_that_fail_are_misses(make_daemon, caplog):
    daemon = make_daemon(dram="64MiB", nvme=None)
    opened = Blobs(daemon.mount, "attempts", "test", 4096)
    attempt = Attempts("the engine")
    assert attempt(opened.put, b"key", value(1))
    daemon.kill()
    for _ in range(3):
        assert attempt(opened.put, b"new", value(2)) is None
        assert not attempt.healthy
    assert caplog.text.count("the engine goes on without it") == 1
    opened.close()
