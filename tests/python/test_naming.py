"""Namespaces that are made by themselves, by whom, and under which name."""

import os
import subprocess
import sys

import kv_data
import kvfs
import pytest
from kvfs.naming import open_namespace

NOBODY = 65534

# What an engine does that runs as somebody else than the daemon.
ENGINE = f"""
import sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
import kv_data, kvfs
from kvfs.naming import open_namespace
mount, name, dtype, tokens = *sys.argv[1:4], range(int(sys.argv[4]))
try:
    namespace = open_namespace(mount, name, kv_data.geometry(dtype))
    print(namespace.name, namespace.match(list(tokens)).tokens)
    with namespace.reserve(list(tokens)) as reservation:
        print(reservation.count)
except kvfs.Error as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def engine(daemon):
    if os.geteuid() != 0:
        pytest.skip("needs two users, so root")
    daemon.root.chmod(0o755)  # what stops others at the mount is the mount's own

    def run(name, dtype="bfloat16", tokens=64) -> str:
        command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        command += [sys.executable, "-c", ENGINE, str(daemon.mount), name, dtype, str(tokens)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    return run


def test_another_geometry_has_a_name_of_its_own(namespace):
    again = open_namespace(namespace.mount, namespace.name, namespace.geometry)
    other = open_namespace(namespace.mount, namespace.name, kv_data.geometry("float16"))
    assert again.name == namespace.name
    assert other.name.startswith(namespace.name + "-")
    with pytest.raises(kvfs.Mismatch, match="dtype"):
        open_namespace(namespace.mount, namespace.name, kv_data.geometry("float16"), chosen=True)


def test_another_user_takes_what_is_there(engine, daemon, namespace):
    opened, refused = engine(namespace.name).splitlines()
    assert opened == f"{namespace.name} 0"
    assert refused.startswith("PermissionDenied")
    os.chown(daemon.mount / namespace.name, NOBODY, NOBODY)
    assert engine(namespace.name).splitlines() == [f"{namespace.name} 0", "4"]


def test_another_user_is_told_what_must_be_there(engine, daemon, namespace):
    for name, dtype in [("not-there", "bfloat16"), (namespace.name, "float16")]:
        said = engine(name, dtype)
        assert said.startswith(f"PermissionDenied there is no namespace {name}")
        assert "kvfs ns create" in said
    assert not (daemon.mount / "not-there").exists()
