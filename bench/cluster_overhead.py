"""What a job on a SLURM costs before and after `lofi` runs: a sweep of stub cells through a real one of one node.

    python -m bench.cluster_overhead --folder overhead --cells 1000             # a job for every cell
    python -m bench.cluster_overhead --folder packed --cells 1000 --packed      # the default: all cells of a dataset
    python -m bench.cluster_overhead --folder overhead --cells 1000 --minutes 30

The stub writes its files in an instant, so all that is measured is around it. Nothing of the profile is changed. The
cluster has two GPUs, and every job asks for one, so two run at a time. After --minutes, a Ctrl-C or a SIGTERM it stops
and says what was measured; started again in the same folder it goes on with the cells that are left. Needs root and
Debian's SLURM (`apt-get install slurmctld slurmd slurm-client munge`).
"""

import argparse
import ctypes
import json
import os
import resource
import signal
import statistics
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from types import FrameType

from lofi.provenance import commit, machine, versions
from tests.slurm.cluster import Cluster, missing
from tests.workflow.conftest import REPOSITORY, Workflow, write_stub

DATASETS = ("digits-pope", "digits-sqa")
SEEDS = 10
# The time of day, because SLURM's times are such.
LOFI = """#!/bin/sh
begin=$(date +%s.%N)
"{python}" "{program}" "$@"
code=$?
echo "$SLURM_JOB_ID $1 $begin $(date +%s.%N)" >> times.txt
exit $code
"""
SUBREAPER = 36  # prctl: orphans of our processes become our children, and so their CPU time is counted
EVERY = 20.0  # seconds from one look at the jobs to the next


@dataclass(frozen=True)
class Job:
    """One finished job, in seconds since the epoch. SLURM's three are whole seconds."""

    session: int
    number: int
    command: str
    submitted: float
    started: float
    ended: float
    lofi_began: float
    lofi_ended: float


@dataclass(frozen=True)
class Session:
    """One start of this program."""

    session: int
    jobs: int
    wall_s: float  # of Snakemake
    cpu_s: float  # of all processes: Snakemake, SLURM, and the jobs with all that they start
    snakemake_cpu_s: float
    load: float  # of the machine at the end
    finished: bool


def write_sweep(folder: Path, cells: int, *, packed: bool) -> Workflow:
    """The folder of a run whose `lofi` is the stub. So many reduced cells; the references come on top."""
    keeps, rest = divmod(cells, len(DATASETS) * SEEDS)
    if rest or not 1 <= keeps <= 999:
        raise SystemExit(f"--cells {cells} is not a multiple of {len(DATASETS) * SEEDS}")
    sweep = {
        "models": {"m": {"source": str(write_stub(folder, LOFI))}},
        "datasets": {name: {} for name in DATASETS},
        "methods": {"random": {"seeds": list(range(SEEDS))}},
        "keeps": [round(0.001 * (keep + 1), 4) for keep in range(keeps)],
        "pack": ["method", "keep", "seed"] if packed else [],
        "stability_images": 0,
    }
    return Workflow(folder, sweep, stub=True)


class Run:
    """One session: a cluster, Snakemake on it, and the jobs that have finished so far."""

    def __init__(self, workflow: Workflow, cluster: Cluster, session: int) -> None:
        self.workflow, self.cluster, self.session = workflow, cluster, session
        # what Snakemake and its jobs find
        os.environ.update(PATH=os.pathsep.join([str(cluster.bin), os.environ["PATH"]]), PYTHONPATH=str(REPOSITORY))
        self.jobs: dict[int, Job] = {}
        self.stopped = False
        self.cpu_s = 0.0

    def stop(self, number: int, frame: FrameType | None) -> None:
        """End soon and in order."""
        self.stopped = True

    def go(self, minutes: float) -> tuple[float, bool]:
        """Run until the sweep or the time is over; the wall time, and whether the sweep is."""
        self.workflow.start("--unlock").wait()
        start = time.monotonic()
        snakemake = self.workflow.start("--profile", "slurm")
        looked = start
        while snakemake.poll() is None:
            if self.stopped or (minutes and time.monotonic() - start > 60 * minutes):
                snakemake.send_signal(signal.SIGINT)  # it cancels its jobs
                snakemake.wait()
                break
            self.cpu_s = _cpu_s(snakemake.pid) or self.cpu_s
            if time.monotonic() - looked > EVERY:
                self.look()
                _reap({snakemake.pid, *(daemon.pid for daemon in self.cluster.daemons.values())})
                looked = time.monotonic()
            time.sleep(0.5)
        self.look()
        return time.monotonic() - start, snakemake.returncode == 0

    def look(self) -> None:
        """Note the jobs that have finished."""
        file = self.workflow.folder / "times.txt"
        lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        inside = {int(words[0]): words for words in lines if len(words) == 4}  # `prepare` runs in no job
        for job in self.cluster.jobs("COMPLETED"):
            number = int(job["JobId"])
            if number in inside and number not in self.jobs:
                _, command, began, ended = inside[number]
                when = (datetime.fromisoformat(job[f"{name}Time"]).timestamp() for name in ("Submit", "Start", "End"))
                self.jobs[number] = Job(self.session, number, command, *when, float(began), float(ended))


def session(workflow: Workflow, number: int, minutes: float) -> tuple[Session, list[Job]]:
    """Run what is left of the sweep."""
    (workflow.folder / "times.txt").unlink(missing_ok=True)  # job numbers begin again with every cluster
    ctypes.CDLL(None, use_errno=True).prctl(SUBREAPER, 1, 0, 0, 0)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with Cluster() as cluster:
        run = Run(workflow, cluster, number)
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, run.stop)
        wall, finished = run.go(minutes)
    _reap(set())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = sorted(run.jobs.values(), key=lambda job: job.number)
    load = os.getloadavg()[1]
    return Session(
        number, len(found), round(wall, 1), round(cpu, 1), round(run.cpu_s, 1), round(load, 1), finished
    ), found


def summary(sessions: list[Session], jobs: list[Job]) -> dict[str, object]:
    """Seconds of a job, the mean over all, by where they go."""
    mine = [job for job in jobs if job.command == "evaluate"]
    if not mine:
        raise SystemExit("no job has finished yet; start again, with more --minutes")
    parts = {
        "waiting in the queue": [job.started - job.submitted for job in mine],
        "before lofi: SLURM and Snakemake in the job": [job.lofi_began - job.started for job in mine],
        "the stub in lofi's place": [job.lofi_ended - job.lofi_began for job in mine],
        "after lofi: Snakemake in the job": [job.ended - job.lofi_ended for job in mine],
        "all of the job without waiting": [job.ended - job.started for job in mine],
    }
    n, wall, cpu = (sum(values) for values in zip(*((s.jobs, s.wall_s, s.cpu_s) for s in sessions), strict=True))
    return {
        "evaluate_jobs": len(mine),
        "finished": sessions[-1].finished,
        "seconds_of_a_job": {name: round(statistics.fmean(values), 2) for name, values in parts.items()},
        "wall_s_per_job": round(wall / n, 2),
        "cpu_s_per_job": round(cpu / n, 2),
        "cpu_s_of_snakemake_outside_per_job": round(sum(s.snakemake_cpu_s for s in sessions) / n, 3),
        "sessions": [asdict(each) for each in sessions],
        "commit": commit(),
        "versions": versions(),
        "machine": machine(),
    }


def _cpu_s(process: int) -> float:
    """The CPU time of one process by itself; 0 where it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _reap(known: set[int]) -> None:
    """Take in the orphans that have ended, but none of the processes that somebody waits for."""
    me = os.getpid()
    children = Path(f"/proc/{me}/task/{me}/children").read_text().split()
    for child in set(map(int, children)) - known:
        os.waitpid(child, os.WNOHANG)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--packed", action="store_true")
    parser.add_argument("--minutes", type=float, default=0, help="0: until the sweep is done")
    options = parser.parse_args()
    if lacking := missing():
        raise SystemExit(f"{', '.join(lacking)} missing: apt-get install slurmctld slurmd slurm-client munge")
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "record.jsonl"
    stored = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    sessions = [Session(**each["of"]) for each in stored]
    jobs = [Job(**job) for each in stored for job in each["jobs"]]
    latest, found = session(write_sweep(folder, options.cells, packed=options.packed), len(sessions), options.minutes)
    with record.open("a") as file:
        file.write(json.dumps({"of": asdict(latest), "jobs": [asdict(job) for job in found]}) + "\n")
    text = json.dumps(summary([*sessions, latest], [*jobs, *found]), indent=2)
    (folder / "summary.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
