"""The processes of this machine that work in a folder: a Snakemake that lives, jobs that outlived theirs."""

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from lofi.errors import UserError
from lofi.recover.queue import Job

PROC = Path("/proc")
STAGES = frozenset({"prepare", "reference", "evaluate", "stability", "aggregate", "report"})
SWEEP = "results/sweep.json"  # what the rules give to every stage


def is_snakemake(words: Sequence[str]) -> bool:
    """Whether a command line starts a Snakemake that rules a folder; those inside of jobs have a --mode."""
    program, *rest = [Path(word).name for word in words[:4]] or [""]
    runs = program == "snakemake" or (program.startswith("python") and "snakemake" in rest)
    return runs and "--mode" not in words


def is_job(words: Sequence[str]) -> bool:
    """Whether a command line is a stage as a rule calls it."""
    names = [Path(word).name for word in words[:2]]
    return "lofi" in names and SWEEP in words and any(word in STAGES for word in words[1:4])


def snakemakes(folder: Path) -> list[tuple[int, str]]:
    """The Snakemakes that live in a folder, by process id and command line."""
    return [(number, " ".join(words)) for number, words in _here(folder) if is_snakemake(words)]


def local_jobs(folder: Path) -> dict[int, Job]:
    """The stages that run in a folder, by process id, but for those that SLURM started and squeue lists."""
    return {
        number: Job(f"process {number}", "running", " ".join(words[1:]))
        for number, words in _here(folder)
        if is_job(words) and not _in_slurm(number)
    }


def stop(numbers: Sequence[int]) -> None:
    """Ask processes to end."""
    for number in numbers:
        try:
            os.kill(number, signal.SIGTERM)
        except ProcessLookupError:
            continue


def _here(folder: Path) -> Iterator[tuple[int, list[str]]]:
    """Processes with this working directory."""
    if not PROC.is_dir():
        raise UserError(
            f"{PROC} is missing, so nobody can see whether a Snakemake still runs in {folder}; make sure that none "
            "does, then run `snakemake --unlock`"
        )
    for entry in PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if (entry / "cwd").readlink() == folder:
                yield int(entry.name), (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
        except OSError:  # it has ended, or is somebody else's
            continue


def _in_slurm(number: int) -> bool:
    try:
        return b"\0SLURM_JOB_ID=" in b"\0" + (PROC / str(number) / "environ").read_bytes()
    except OSError:
        return False
