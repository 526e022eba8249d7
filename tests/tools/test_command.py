"""What all commands have in common: help, errors, exit codes, completion."""

import subprocess

import pytest

COMMANDS = [
    "mount", "umount", "status", "top", "ns create", "ns list", "ns rm", "ls", "stat", "du",
    "match", "prefetch", "pin", "unpin", "evict", "verify", "size", "plan", "bench", "doctor",
    "completion", "version",
]  # fmt: skip
NEED_A_MOUNT = [
    ["status"], ["top", "--once"], ["ns", "list"], ["ls"], ["du"], ["verify"], ["match", "x", "1"],
    ["stat", "x/y"], ["pin", "x/y"], ["unpin", "x/y"], ["prefetch", "x/y"], ["evict", "x/y"],
    ["ns", "rm", "x"], ["umount"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(kvfs, command):
    done = kvfs(*command.split(), "--help")
    assert "--json" in done.out
    assert f"kvfs {command.split()[0]}" in done.out.split("Examples:")[1] or "completion" in command


def test_help_lists_all_commands(kvfs):
    done = kvfs("--help")
    for command in COMMANDS:
        assert f"\n  {command.split()[0]} " in done.out
    assert "Exit codes: 0 done" in done.out


def test_usage_errors(kvfs):
    assert "there is no command fly" in kvfs.fails(2, "fly")
    assert "subcommand is required" in kvfs.fails(2)
    assert "NAME is required (see kvfs ns create --help)" in kvfs.fails(2, "ns", "create")
    assert "--colour" in kvfs.fails(2, "status", "--colour")


@pytest.mark.parametrize("command", NEED_A_MOUNT, ids=" ".join)
def test_a_place_that_is_no_mount(kvfs, command, tmp_path):
    line = kvfs.fails(3, *command, "--mount", tmp_path)
    assert f"{tmp_path} is not a kvfs mount" in line
    assert "kvfs mount" in line
    assert str(tmp_path) in kvfs.fails(3, *command, env={"KVFS_MOUNT": str(tmp_path)})


def test_errors_as_json(kvfs, tmp_path):
    done = kvfs("status", "--mount", tmp_path, "--json", status=3)
    assert done.json["ok"] is False
    assert done.json["code"] == "not_found"
    assert done.json["error"] in done.err


def test_usage_errors_as_json(kvfs):
    for arguments in (["fly"], ["status", "--colour"], ["ns", "create"]):
        done = kvfs(*arguments, "--json", status=2)
        assert done.json["code"] == "invalid"
        assert done.json["error"] in done.err


def test_a_daemon_of_another_release(kvfs, tmp_path):
    (tmp_path / ".kvfs").mkdir()
    (tmp_path / ".kvfs/version").touch()
    (tmp_path / ".kvfs/stats.json").write_text('{"store": {"uptime_seconds": "long"}}')
    assert "different releases" in kvfs.fails(6, "status", "--mount", tmp_path)


def test_a_working_directory_that_is_gone(kvfs, tmp_path):
    command = f"cd {tmp_path}; rmdir {tmp_path}; exec {kvfs.program} mount here --dram 8MiB"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 6
    assert done.stderr.startswith("kvfs: ")
    assert len(done.stderr.splitlines()) == 1


def test_version(kvfs, bin_dir):
    version = kvfs("version", "--json").json
    assert (
        kvfs("version").out
        == f"kvfs {version['version']} (abi {version['abi']}, index {version['index']})\n"
    )
    daemon = subprocess.run(
        [bin_dir / "kvfsd", "--version"], capture_output=True, text=True, check=True
    )
    assert kvfs("version").out == daemon.stdout


def test_bash_completion(kvfs, tmp_path):
    script = tmp_path / "kvfs.bash"
    script.write_text(kvfs("completion", "bash").out)
    ask = (
        f"source {script}; "
        'complete_words() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _kvfs; '
        "echo ${COMPREPLY[*]}; }; "
    )

    def completed(*words):
        quoted = " ".join(f"'{word}'" for word in words)
        line = f"{ask} complete_words kvfs {quoted}"
        return subprocess.run(
            ["bash", "-c", line], capture_output=True, text=True, check=True
        ).stdout.split()

    assert completed("ver") == ["verify", "version"]
    assert completed("ns", "") == ["create", "list", "rm", "--help"]
    assert "--head-dim" in completed("ns", "create", "--head")
    assert completed("evict", "--ti") == ["--tier"]


def test_completion_of_other_shells(kvfs):
    assert kvfs("completion", "zsh").out.startswith("#compdef kvfs")
    assert "-a create" in kvfs("completion", "fish").out
    assert "csh" in kvfs.fails(2, "completion", "csh")


def test_output_that_cannot_be_written(kvfs):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [kvfs.program, "version"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 6
