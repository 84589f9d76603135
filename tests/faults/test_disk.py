"""Disks that are full or can only be read: one line that names the file and the fix, and nothing is lost."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import COMMANDS, Sweep
from tests.faults.process import run

ROOM = 64 * 2**20  # bytes; the sweep has less than 20 MiB


@pytest.fixture
def disk(finished: Sweep, tmp_path: Path) -> Iterator[Sweep]:
    """A copy of the sweep on a small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "none", place], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here, which takes root: {mounted.stderr.strip()}")
    try:
        shutil.copytree(finished.folder, place, dirs_exist_ok=True)
        yield Sweep(place, finished.seconds)
    finally:
        subprocess.run(["umount", place], check=True)


def fill(sweep: Sweep, leave: int) -> Path:
    """The file that takes all of the disk but some bytes."""
    filler = sweep.folder / "filler"
    with filler.open("wb") as file:
        left = shutil.disk_usage(sweep.folder).free - leave
        while left > 0:
            left -= file.write(bytes(min(left, 2**20)))
    assert shutil.disk_usage(sweep.folder).free <= leave + 4096
    return filler


@pytest.mark.parametrize(
    ("command", "leave", "culprit"),
    [
        ("evaluate", 300_000, "results/cache/"),
        ("aggregate", 600_000, "results/audit.duckdb"),
        pytest.param("prepare", 8_000, "results/data/digits-pope/", marks=pytest.mark.slow),
        *(
            pytest.param(command, leave, culprit, marks=pytest.mark.slow)
            for leave in (0, 20_000, 100_000, 1_000_000, 3_000_000)
            for command, culprit in (("evaluate", "results/cache/"), ("aggregate", "results/"), ("report", "reports/"))
        ),
    ],
)
def test_a_full_disk_is_said_and_nothing_is_lost(finished, disk, command, leave, culprit):
    disk.forget(command)
    filler = fill(disk, leave)
    stopped = run(disk.folder, *COMMANDS[command], code=2)
    said = stopped.complaint()
    assert said.startswith(f"lofi {command}: {culprit}"), said
    assert " cannot be used: No space left on device, " in said
    assert said.endswith(" MB are free; what is finished is kept; make room, and run the same command again")
    assert not disk.half()
    assert not disk.leftovers()

    filler.unlink()
    run(disk.folder, *COMMANDS[command])
    assert disk.contents(command) == finished.contents(command)


@pytest.mark.parametrize(
    "command",
    ["aggregate", *(pytest.param(each, marks=pytest.mark.slow) for each in ("evaluate", "prepare", "report"))],
)
def test_a_disk_that_can_only_be_read_is_said(finished, disk, command):
    before = disk.contents(command)
    subprocess.run(["mount", "-o", "remount,ro", disk.folder], check=True)
    said = run(disk.folder, *COMMANDS[command], code=2).complaint()
    assert "Read-only file system" in said
    assert said.endswith("; it can only be read; give a path that can be written to"), said
    assert disk.contents(command) == before
