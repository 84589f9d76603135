"""CPU jobs in a loop for hours: does memory stay flat, and are the answers still those of the first round?

    python -m bench.soak --folder soak --minutes 120

One long-lived process opens models and evaluates cells over and over, which is where a leak shows. Every tenth round
also runs the whole pipeline as commands, each a process of its own, one at a time. In between it rests, so that it
takes about a third of a core. Between rounds, once a minute, it appends a line to soak.jsonl; summary.json comes last.
"""

import argparse
import ctypes
import gc
import hashlib
import json
import os
import shutil
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pyarrow.parquet as pq
import yaml

from bench.process import LOFI, taken
from lofi.config import from_dict
from lofi.engine.job import open_job
from lofi.engine.stages import evaluate, reference
from lofi.provenance import commit, machine, versions
from lofi.sweep import Sweep

MODEL, DATASET = "digits-llava", "digits-pope"
SWEEP = {
    "models": {MODEL: {"batch_images": 8}},
    "datasets": {DATASET: {"limit": 16}},
    # drawn, ranked once, by linear algebra, merged, and pruned inside the decoder at two layers
    "methods": {"random": {"seeds": [0, 1]}, "divprune": {}, "lofi": {}, "visionzip": {}, "fastv": {}},
    "keeps": [0.5, 0.6],
    "stability_images": 8,
}
ALL_COMMANDS = 10  # rounds from one run of all commands to the next
COMMANDS = (
    ("prepare", "--dataset", DATASET),
    ("reference", "--model", MODEL, "--dataset", DATASET),
    ("evaluate", "--model", MODEL, "--dataset", DATASET),
    ("stability", "--model", MODEL, "--dataset", DATASET),
    ("aggregate",),
    ("report", "--date", "2000-01-01"),
)


@dataclass(frozen=True)
class Minute:
    """The process at rest, and the most that a command has taken since the line before."""

    seconds: float
    rounds: int
    pipelines: int
    rss_mb: float
    held_mb: float  # the same after the allocator has given back what it keeps aside, which wanders
    objects: int
    open_files: int
    threads: int
    temporary_mb: float
    command_peak_mb: dict[str, float]


class Soak:
    """The rounds, and what the first of them answered."""

    def __init__(self, folder: Path, share: float) -> None:
        self.folder, self.share = folder, share
        self.config = folder / "sweep.yaml"
        self.config.write_text(yaml.safe_dump(SWEEP, sort_keys=False))
        self.sweep: Sweep = from_dict(SWEEP)
        self.first = ""
        self.rounds = self.pipelines = 0
        self.peaks: dict[str, float] = {}

    def run(self, minutes: float) -> list[Minute]:
        """Rounds until the time is over; the lines that were written."""
        start = time.monotonic()
        lines: list[Minute] = []
        with open(self.folder / "soak.jsonl", "w", buffering=1) as file:
            while time.monotonic() - start < 60 * minutes:
                began = time.monotonic()
                if self.rounds % ALL_COMMANDS == 0:
                    self._by_commands()
                self._in_process()
                busy = time.monotonic() - began
                if time.monotonic() - start >= 60 * len(lines):
                    lines.append(self._look(time.monotonic() - start))
                    file.write(json.dumps(asdict(lines[-1])) + "\n")
                time.sleep(busy * (1 / self.share - 1))
        return lines

    def _in_process(self) -> None:
        """The reference and all cells anew, in this process."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            results = Path(name)
            shutil.copytree(self.folder / "data", results / "data")
            job = open_job(results, self.sweep, MODEL, DATASET, 0)
            reference(job)
            evaluate(job, job.cells())
            self._compare(results)
        self.rounds += 1

    def _by_commands(self) -> None:
        """The whole pipeline, command by command."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            results = Path(name) / "results"
            for command in COMMANDS:
                self._command(results, *command)
            self._compare(results)
            if not (self.folder / "data").exists():
                shutil.copytree(results / "data", self.folder / "data")
        self.pipelines += 1

    def _command(self, results: Path, name: str, *options: str) -> None:
        """One command, and the most memory that it took."""
        line = [*LOFI, name, "--config", str(self.config), "--results", str(results), *options]
        if name == "report":
            line += ["--output", str(results.parent / "index.html")]
        self.peaks[name] = max(self.peaks.get(name, 0.0), taken(line).peak_bytes / 2**20)

    def _compare(self, results: Path) -> None:
        """End the soak where a sample is not what it was in the first round."""
        found = answers(results)
        self.first = self.first or found
        if found != self.first:
            kept = self.folder / "different"
            shutil.copytree(results, kept, dirs_exist_ok=True)
            raise SystemExit(f"round {self.rounds} has other samples than the first; they are in {kept}")

    def _look(self, seconds: float) -> Minute:
        gc.collect()
        peaks, self.peaks = self.peaks, {}
        return Minute(
            seconds=round(seconds, 1),
            rounds=self.rounds,
            pipelines=self.pipelines,
            rss_mb=round(_rss_mb(), 1),
            held_mb=round(_held_mb(), 1),
            objects=len(gc.get_objects()),
            open_files=len(os.listdir("/proc/self/fd")),
            threads=len(os.listdir("/proc/self/task")),
            temporary_mb=round(_size_mb(Path(tempfile.gettempdir())), 1),
            command_peak_mb={name: round(peak, 1) for name, peak in peaks.items()},
        )


def answers(results: Path) -> str:
    """One hash of every sample of every cell, without times."""
    said = hashlib.sha256()
    for path in sorted((results / "samples").rglob("*.parquet")):
        table = pq.read_table(path)
        timed = [name for name in table.column_names if name.startswith("t_")]
        said.update(f"{path.relative_to(results)} {table.drop_columns(timed).to_pylist()!r}".encode())
    return said.hexdigest()


def slope(lines: list[Minute]) -> float:
    """MB an hour, from the median of the second quarter to the median of the last: the first one warms up."""
    n = len(lines)
    quarters = lines[n // 4 : n // 2], lines[3 * n // 4 :]
    if not all(quarters):
        raise SystemExit(f"{n} minutes have no quarters; run for 8 minutes or more")
    (then, before), (now, after) = (
        (statistics.median(each.seconds for each in part), statistics.median(each.held_mb for each in part))
        for part in quarters
    )
    return (after - before) / (now - then) * 3600


def summary(lines: list[Minute], answered: str) -> dict[str, object]:
    last = lines[-1]
    return {
        "minutes": round(last.seconds / 60, 1),
        "rounds": last.rounds,
        "pipelines": last.pipelines,
        "rss_mb": {"first": lines[0].rss_mb, "last": last.rss_mb, "most": max(each.rss_mb for each in lines)},
        "held_mb": {"first": lines[0].held_mb, "last": last.held_mb, "most": max(each.held_mb for each in lines)},
        "objects": {"first": lines[0].objects, "last": last.objects},
        "slope_mb_per_hour": round(slope(lines), 2),  # of what is held
        "open_files": sorted({each.open_files for each in lines}),
        "threads": sorted({each.threads for each in lines}),
        "temporary_mb": sorted({each.temporary_mb for each in lines}),
        "samples": f"the same in every round: {answered}",
        "commit": commit(),
        "versions": versions(),
        "machine": machine(),
    }


def _held_mb() -> float:
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # of the GNU library alone
        trim(0)
    return _rss_mb()


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--share", type=float, default=0.33, help="of the time that it works; it rests for the others")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    temporary = options.folder.resolve() / "tmp"  # whatever is left there is lofi's
    temporary.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    soak = Soak(options.folder.resolve(), options.share)
    lines = soak.run(options.minutes)
    found = json.dumps(summary(lines, soak.first), indent=2)
    (options.folder / "summary.json").write_text(found + "\n")
    print(found)


if __name__ == "__main__":
    main()
