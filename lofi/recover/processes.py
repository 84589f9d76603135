"""The processes of this machine that work in a folder: a Snakemake that lives, jobs that outlived theirs."""

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lofi.errors import UserError
from lofi.recover.queue import Job

PROC = Path("/proc")
STAGES = frozenset({"prepare", "reference", "evaluate", "stability", "aggregate", "report"})
SWEEP = "results/sweep.json"  # what the rules give to every stage


@dataclass(frozen=True)
class Process:
    """A process as it was when it was looked at: its working directory, its command line and its environment."""

    number: int
    folder: Path
    words: tuple[str, ...]
    environment: tuple[str, ...]  # each NAME=value

    @property
    def in_slurm(self) -> bool:
        """Whether SLURM started it."""
        return any(word.startswith("SLURM_JOB_ID=") for word in self.environment)


def others() -> Iterator[Process]:
    """All processes of this machine that we may look into, but for our own."""
    for entry in PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            yield Process(
                int(entry.name), (entry / "cwd").readlink(), _words(entry / "cmdline"), _words(entry / "environ")
            )
        except OSError:  # it has ended, or is somebody else's
            continue


def is_snakemake(words: Sequence[str]) -> bool:
    """Whether a command line starts a Snakemake that rules a folder; those inside of jobs have a --mode."""
    program, *rest = [Path(word).name for word in words[:4]] or [""]
    runs = program == "snakemake" or (program.startswith("python") and "snakemake" in rest)
    return runs and "--mode" not in words


def is_job(words: Sequence[str]) -> bool:
    """Whether a command line is a stage as a rule calls it."""
    names = [Path(word).name for word in words[:2]]
    return "lofi" in names and SWEEP in words and any(word in STAGES for word in words[1:4])


def snakemakes(folder: Path) -> list[Process]:
    """The Snakemakes that live in a folder."""
    return [process for process in _here(folder) if is_snakemake(process.words)]


def stages(folder: Path) -> list[Process]:
    """The stages that run in a folder, in SLURM's jobs or outside of them."""
    return [process for process in _here(folder) if is_job(process.words)]


def local_jobs(folder: Path) -> dict[int, Job]:
    """The stages that run in a folder, by process id, but for those that SLURM started and squeue lists."""
    return {
        process.number: Job(f"process {process.number}", "running", " ".join(process.words[1:]))
        for process in stages(folder)
        if not process.in_slurm
    }


def stop(numbers: Sequence[int]) -> None:
    """Ask processes to end."""
    for number in numbers:
        try:
            os.kill(number, signal.SIGTERM)
        except ProcessLookupError:
            continue


def _here(folder: Path) -> Iterator[Process]:
    if not PROC.is_dir():
        raise UserError(
            f"{PROC} is missing, so nobody can see whether a Snakemake still runs in {folder}; make sure that none "
            "does, then run `snakemake --unlock`"
        )
    return (process for process in others() if process.folder == folder)


def _words(file: Path) -> tuple[str, ...]:
    return tuple(file.read_bytes().decode(errors="replace").removesuffix("\0").split("\0"))
