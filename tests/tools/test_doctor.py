"""kvfs doctor: it looks at the real machine, so the tests look at the same places."""

import os

LEVELS = {"good", "note", "warning", "bad"}


def checks(done):
    return {check["name"]: check for check in done.json["checks"]}


def test_every_check_says_what_it_found_and_what_to_do(kvfs, tmp_path):
    done = kvfs("doctor", "--json", "--dir", tmp_path, status=None)
    found = checks(done)
    assert {
        "kernel",
        "fuse device",
        "passthrough",
        "io_uring",
        "memory",
        "huge pages",
        "disk",
        "gpu",
        "daemon",
    } <= set(found)
    for check in found.values():
        assert check["level"] in LEVELS
        assert check["found"]
        assert (check["remedy"] is None) == (check["level"] == "good"), check
    mended = all(check["level"] in ("good", "note") for check in found.values())
    assert done.status == (0 if mended else 1)
    assert done.json["good"] == mended
    assert list(tmp_path.iterdir()) == []


def test_the_machine(kvfs, tmp_path):
    found = checks(kvfs("doctor", "--json", "--dir", tmp_path, status=None))
    assert os.uname().release in found["kernel"]["found"]
    assert found["daemon"]["level"] == "good"
    if os.access("/dev/fuse", os.R_OK | os.W_OK):
        assert found["fuse device"]["level"] == "good"


def test_too_much_memory_and_no_direct_io(kvfs):
    found = checks(kvfs("doctor", "--json", "--dram", "4TiB", "--dir", "/proc", status=1))
    assert found["memory"]["level"] == "bad"
    assert "--dram" in found["memory"]["remedy"]
    assert found["disk"]["level"] == "bad"
    assert "--nvme" in found["disk"]["remedy"]


def test_for_people(kvfs, tmp_path):
    out = kvfs("doctor", "--dir", tmp_path, status=None).out
    assert out.count("\n") >= 10
    assert "kernel" in out
