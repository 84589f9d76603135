"""What Snakemake's own logs say about the runs of a folder: who started them, where, and what their jobs write."""

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(".snakemake") / "log"
HEADER = re.compile(r"^  (Date|Host|User|Command|Snakefile|Run directory): (.*)$", re.MULTILINE)
SLURM_NAME = re.compile(r"^SLURM run ID: (\S+)$", re.MULTILINE)
OUTPUTS = re.compile(r"^    output: (.+)$", re.MULTILINE)
PROFILE = re.compile(r"(?:^|\s)--profile[ =](\S+)")
STATS = re.compile(r"^Job stats:\njob +count\n[- ]+\n((?:\S+ +\d+\n)+)", re.MULTILINE)
BLOCKED = re.compile(r"^LockException:", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """One start of Snakemake."""

    date: str
    host: str
    user: str
    command: str
    snakefile: str
    started_in: str  # where the command line's relative paths start
    slurm_name: str | None  # of all its SLURM jobs; None where it had none
    outputs: frozenset[str]  # of the jobs that it started

    @property
    def arguments(self) -> str:
        """The command line without the program, as it was split: quotes are gone."""
        return self.command.partition(" ")[2]

    @property
    def profile(self) -> str | None:
        """The profile that the command line named."""
        found = PROFILE.search(self.command)
        return found.group(1) if found else None


def read_run(log: str) -> Run | None:
    """The run of a log; None where it held no lock: it was refused one, or it only unlocked or listed."""
    header = dict(HEADER.findall(log))
    if BLOCKED.search(log) or "Host" not in header:
        return None
    name = SLURM_NAME.search(log)
    return Run(
        date=header.get("Date", ""),
        host=header["Host"],
        user=header.get("User", ""),
        command=header.get("Command", ""),
        snakefile=header.get("Snakefile", ""),
        started_in=header.get("Run directory", ""),
        slurm_name=name.group(1) if name else None,
        outputs=outputs_of(log),
    )


def runs_of(folder: Path) -> list[Run]:
    """All runs of a folder that have left a log, oldest first: the names of the logs are dates."""
    logs = sorted((folder / FOLDER).glob("*.snakemake.log"))
    return [run for log in logs if (run := read_run(log.read_text(errors="replace")))]


def outputs_of(said: str) -> frozenset[str]:
    """The files of all jobs that Snakemake names in a log or a dry run."""
    return frozenset(path for line in OUTPUTS.findall(said) for path in line.split(", "))


def counts_of(said: str) -> dict[str, int]:
    """Jobs by rule, as a dry run counts them, without `all`, which runs nothing."""
    table = STATS.search(said)
    rows = [line.split() for line in table.group(1).splitlines()] if table else []
    return {rule: int(count) for rule, count in rows if rule not in ("all", "total")}


def unnoted(summary: str) -> frozenset[str]:
    """The files that exist though Snakemake has no record of a finished job: rows with a date and no log."""
    rows = [line.split("\t") for line in summary.splitlines()[1:]]
    return frozenset(row[0] for row in rows if len(row) == 6 and row[1] != "-" and row[3] == "-")
