"""Calls of Snakemake on the sweep that a dead run has left in results/sweep.json."""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from lofi.errors import UserError
from lofi.recover.logs import Run, counts_of, outputs_of, unnoted

FILES_A_CALL = 500  # the length of a command line is limited


class Snakemake:
    """Snakemake in one folder, with the Snakefile, the profile and the sweep of a run."""

    def __init__(self, folder: Path, run: Run, profile: str | None) -> None:
        self._folder = folder
        self._started_in = run.started_in if Path(run.started_in).is_dir() else None
        profile = profile or run.profile
        sweep = folder / "results" / "sweep.json"
        self._start = [
            *(sys.executable, "-m", "snakemake", "--snakefile", run.snakefile, "--directory", str(folder)),
            *(["--profile", profile] if profile else []),
            *(["--configfile", str(sweep)] if sweep.is_file() else []),
        ]

    def unlock(self) -> None:
        """Remove the lock."""
        self._call("--unlock")

    def left(self) -> tuple[dict[str, int], frozenset[str]]:
        """What a run would start now: jobs by rule, and their files."""
        said = self._call("--dry-run", "--rerun-incomplete")
        return counts_of(said), outputs_of(said)

    def note(self, candidates: frozenset[str]) -> int:
        """Note the jobs that finished these files when nobody looked; the number of files.

        Only the Snakemake that rules a folder records what a job was called with. Without that record the files look
        finished for ever: a changed parameter would not run them again. The dates of the files stay as they are, since
        newer ones would run again whatever was made from them.
        """
        files = sorted(unnoted(self._call("--summary")) & candidates) if candidates else []
        dates = {path: (self._folder / path).stat() for path in files}
        for some in _batches(files):  # quiet, so that it leaves no log that looks like a run's
            self._call("--touch", "--force", "--rerun-incomplete", "--cores", "1", "--quiet", "all", "--", *some)
        for path, date in dates.items():
            os.utime(self._folder / path, ns=(date.st_atime_ns, date.st_mtime_ns))
        return len(files)

    def _call(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._start, *arguments],
            cwd=self._started_in,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            reason = (done.stdout.strip().splitlines() or ["it gave no reason"])[-1]
            raise UserError(f"snakemake {arguments[0]} failed ({reason}); run it by hand to see all that it says")
        return done.stdout


def _batches(files: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(files)
    while some := list(islice(rest, FILES_A_CALL)):
        yield some
