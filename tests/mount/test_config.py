"""kvfsd's options and its file."""

import subprocess

import pytest


@pytest.fixture
def kvfsd(bin_dir, tmp_path):
    (tmp_path / "mnt").mkdir()

    def call(*options: object, toml: str | None = None) -> subprocess.CompletedProcess:
        argv = [str(bin_dir / "kvfsd"), *map(str, options)]
        if toml is not None:
            (tmp_path / "kvfs.toml").write_text(toml)
            argv += ["--config", str(tmp_path / "kvfs.toml")]
        return subprocess.run(argv, capture_output=True, text=True, timeout=20)

    call.mount = tmp_path / "mnt"
    call.tmp = tmp_path
    return call


def test_help_names_every_key_with_examples(kvfsd):
    done = kvfsd("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    config = kvfsd(kvfsd.mount, "--dram", "16MiB", "--check-config").stdout
    for line in config.splitlines():
        assert f"--{line.split(' = ')[0].replace('_', '-')}" in done.stdout
    assert "kvfsd /kv --dram 8GiB" in done.stdout


def test_version(kvfsd):
    done = kvfsd("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("kvfs ")


def test_flags_override_the_file_and_what_is_printed_can_be_read(kvfsd):
    toml = (
        f'mountpoint = "{kvfsd.mount}"\ndram = "32MiB"\nthreads = 3\n'
        f'nvme = ["{kvfsd.tmp}/a:64MiB"]\nallow_other = false\n'
    )
    done = kvfsd(
        "--dram",
        "64MiB",
        "--nvme",
        f"{kvfsd.tmp}/b:128MiB",
        "--nvme",
        f"{kvfsd.tmp}/c:128MiB",
        "--check-config",
        toml=toml,
    )
    assert done.returncode == 0, done.stderr
    assert 'dram = "64MiB"' in done.stdout
    assert "threads = 3" in done.stdout
    assert "allow_other = false" in done.stdout
    assert f'nvme = ["{kvfsd.tmp}/b:128MiB", "{kvfsd.tmp}/c:128MiB"]' in done.stdout
    again = kvfsd("--check-config", toml=done.stdout)
    assert again.stdout == done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--dram", "8Gigs"], ["--dram", "8Gigs", "GiB"]),
        (["--dram", "64MiB", "--threads", "0"], ["--threads", "'0'", "1 to 1024"]),
        (
            ["--dram", "64MiB", "--passthrough", "maybe"],
            ["--passthrough", "maybe", "auto, on, off"],
        ),
        (["--dram", "64MiB", "--nvme", "/data"], ["--nvme", "/data", "DIR:SIZE"]),
        (["--dram", "64MiB", "--keep-dram", "perhaps"], ["--keep-dram", "perhaps"]),
        (["--dram", "64MiB", "--log-level", "loud"], ["--log-level", "loud"]),
        (["--dram", "64MiB", "--quarantine", "2 days"], ["--quarantine", "2 days"]),
        ([], ["dram", "missing", "--dram 8GiB"]),
        (["--dram", "1MiB"], ["dram", "1MiB", "8MiB"]),
        (["--dram", "900TiB"], ["dram", "900TiB", "memory"]),
        (
            ["--dram", "64MiB", "--nvme", "/var/tmp/kvfs-none:900TiB"],
            ["nvme", "/var/tmp/kvfs-none", "free"],
        ),
        (["--dram", "64MiB", "--slab", "3MiB"], ["slab", "3MiB", "2MiB"]),
        (["--dram", "64MiB", "--slab", "128MiB"], ["slab", "128MiB"]),
        (["--dram", "64MiB", "--writeback-backlog", "1GiB"], ["writeback_backlog", "1GiB"]),
        (["--dram", "64MiB", "--max-read", "5000"], ["max_read", "5000"]),
        (["--dram", "64MiB", "--gpu", "8GiB"], ["--gpu", "8GiB", "0:8GiB"]),
        (["--dram", "64MiB", "--gpu", "-1:8GiB"], ["--gpu", "-1:8GiB", "N:SIZE"]),
        (["--dram", "64MiB", "--gpu", "cpu:1MiB"], ["gpu", "1MiB", "2MiB"]),
        (["--dram", "64MiB", "--colour", "red"], ["colour", "--help"]),
        (
            ["--dram", "64MiB", "--nvme", "/x/a:64MiB", "--nvme", "/x/a:64MiB"],
            ["nvme", "/x/a", "twice"],
        ),
    ],
    ids=lambda value: " ".join(map(str, value)) if value else "none",
)
def test_errors_name_key_value_and_remedy(kvfsd, options, said):
    done = kvfsd(kvfsd.mount, "--check-config", *options)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for part in said:
        assert part in done.stderr


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('drum = "1GiB"', ["line 1", "drum", "dram"]),
        ("dram = 1.5", ["line 1", "dram", "SIZE"]),
        ('dram = ["1GiB"]', ["line 1", "dram", "list"]),
        ('\ndram = "lots"', ["line 2", "dram", "lots"]),
        ("threads = many", ["line 1"]),
        ("[tiers]\ndram = 1", ["tiers"]),
    ],
)
def test_errors_in_the_file_name_the_line(kvfsd, toml, said):
    done = kvfsd("--check-config", toml=toml)
    assert done.returncode == 2
    for part in [*said, "kvfs.toml"]:
        assert part in done.stderr


def test_missing_file_and_mountpoint(kvfsd):
    done = kvfsd("--config", kvfsd.tmp / "none.toml")
    assert done.returncode == 2
    assert "none.toml" in done.stderr
    done = kvfsd(kvfsd.tmp / "nowhere", "--dram", "16MiB", "--check-config")
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert "create it" in done.stderr
    done = kvfsd("--dram", "16MiB", "--check-config")
    assert done.returncode == 2
    assert "mountpoint" in done.stderr
