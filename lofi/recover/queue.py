"""The SLURM jobs of a run, which all have the run's name."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from lofi.errors import UserError

PATIENCE = 60  # seconds for the controller to answer


@dataclass(frozen=True)
class Job:
    """A job that has not ended: in SLURM's queue, or a process of this machine."""

    name: str
    state: str
    what: str  # rule and wildcards

    def __str__(self) -> str:
        return f"{self.name} ({self.state}) {self.what}"


def read_queue(said: str) -> list[Job]:
    """The jobs in what `squeue` says."""
    rows = [line.split("|", 2) for line in said.splitlines() if line.count("|") >= 2]
    return [Job(f"SLURM job {name}", state.lower(), what.removeprefix("rule_")) for name, state, what in rows]


def queued(names: Sequence[str]) -> list[Job]:
    """The jobs of these runs that wait or run; no question asked where no run used SLURM."""
    if not names:
        return []
    return read_queue(_ask("squeue", "--noheader", f"--name={','.join(names)}", "--format=%i|%T|%k"))


def cancel(names: Sequence[str]) -> None:
    """Cancel all jobs of these runs."""
    for name in names:
        _ask("scancel", f"--name={name}")


def _ask(program: str, *arguments: str) -> str:
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False)
    except FileNotFoundError:
        raise UserError(
            f"{program} is not on PATH, and the run had jobs on SLURM; start lofi recover where sbatch works"
        ) from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{program} did not answer within {PATIENCE} s; the jobs go on, so try again later") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise UserError(
            f"{program} failed with exit code {done.returncode} ({reason}); the jobs go on, so try again "
            "once SLURM answers"
        )
    return done.stdout
