"""Put a folder in order after its Snakemake was killed, so that the same command goes on."""

import getpass
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lofi.errors import UserError
from lofi.recover import processes, queue
from lofi.recover.logs import Run, runs_of
from lofi.recover.queue import Job
from lofi.recover.snakemake import Snakemake

SECONDS_BETWEEN_LOOKS = 5.0
NAMED = 5  # jobs that a line names

Say = Callable[[str], None]


def recover(folder: Path, say: Say, *, cancel: bool, profile: str | None = None, dead_host: str | None = None) -> None:
    """Wait for the jobs of dead runs or cancel them, unlock, and say what is left to run."""
    folder = folder.resolve()
    runs = runs_of(folder)
    if not runs:
        raise UserError(f"no run was ever started in {folder} (it has no .snakemake/log); give its --directory")
    last = runs[-1]
    _check_dead(folder, last, dead_host)
    say(f"the last run is of {last.date} on {last.host}: snakemake {last.arguments}")
    names = [run.slurm_name for run in runs if run.slurm_name]
    if cancel:
        _cancel(folder, names, say)
    _wait(folder, names, say)
    _check_dead(folder, last, dead_host)  # somebody may have started one meanwhile
    snakemake = Snakemake(folder, last, profile)
    if is_locked(folder):
        snakemake.unlock()
        say("unlocked")
    counts, again = snakemake.left()
    noted = snakemake.note(frozenset(path for run in runs if run.slurm_name for path in run.outputs) - again)
    if noted:
        say(f"noted {noted} files of jobs that finished after their Snakemake was dead")
    say(f"left to run: {', '.join(f'{count} {rule}' for rule, count in counts.items()) or 'nothing'}")
    if counts:
        say(f"go on with: snakemake {last.arguments}")


def is_locked(folder: Path) -> bool:
    """Whether a run has locked the folder and not unlocked it."""
    return any((folder / ".snakemake" / "locks").glob("*.lock"))


def _check_dead(folder: Path, run: Run, dead_host: str | None) -> None:
    """Refuse where a Snakemake rules the folder, or might: from here only processes of this machine can be seen."""
    for process in processes.snakemakes(folder):
        raise UserError(
            f"Snakemake is alive in {folder} (process {process.number}: {' '.join(process.words)}); let it end, or "
            f"stop it with kill -INT {process.number}"
        )
    if not is_locked(folder):
        return
    if run.user != getpass.getuser():
        raise UserError(
            f"the run in {folder} is {run.user}'s, whose processes cannot be seen; ask {run.user} to recover it"
        )
    if run.host not in (platform.node(), dead_host):
        raise UserError(
            f"the run in {folder} was started on {run.host}, whose processes cannot be seen from {platform.node()}; "
            f"run lofi recover there, or add --dead-host {run.host} once you know that no Snakemake runs there"
        )


def _orphans(folder: Path, names: Sequence[str]) -> list[Job]:
    return [*queue.queued(names), *processes.local_jobs(folder).values()]


def _cancel(folder: Path, names: Sequence[str], say: Say) -> None:
    found = _orphans(folder, names)
    if not found:
        return
    say(f"cancelling {_listed(found)}")
    queue.cancel(names)
    processes.stop(list(processes.local_jobs(folder)))


def _wait(folder: Path, names: Sequence[str], say: Say) -> None:
    """Until no job is left. Each change of their number is a line."""
    before = 0
    try:
        while found := _orphans(folder, names):
            if len(found) != before:
                say(f"waiting for {_listed(found)}")
            before = len(found)
            time.sleep(SECONDS_BETWEEN_LOOKS)
    except KeyboardInterrupt:
        raise UserError(
            "stopped waiting; the jobs go on and the folder is still locked; run lofi recover again"
        ) from None
    say("no job is left of it")


def _listed(jobs: Sequence[Job]) -> str:
    more = f", and {len(jobs) - NAMED} more" if len(jobs) > NAMED else ""
    return f"{len(jobs)} {'job' if len(jobs) == 1 else 'jobs'}: {', '.join(map(str, jobs[:NAMED]))}{more}"
