"""The demo from data to report against one process for each cell."""

import os
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from item import Item, Target, item_of
from process import Taken, taken

from lofi.cell import Cell
from lofi.config import load
from lofi.sweep import Sweep

REPOSITORY = Path(__file__).parent.parent
CORES = len(os.sched_getaffinity(0))
ROUNDS = 2
MEASURED = 8  # cells of each round that really run in processes of their own, evenly over the sweep
SHOWN = "a process for each cell, which asks one sample at a time, {cores} at once: {cell:.1f} s a cell of {cells}, "
SHOWN += "{taken} of them measured; the whole demo took {demo:.0f} s"


def demo_vs_process_per_cell() -> Item:
    """The whole demo, report included, against a process for each cell that asks one sample at a time."""
    sweep = load(REPOSITORY / "config.yaml")
    cells = [cell for cell in sweep.cells() if can_run_alone(sweep, cell)]
    some = cells[:: max(1, len(cells) // (ROUNDS * MEASURED))]
    rounds = [one_round(some[number::ROUNDS][:MEASURED]) for number in range(ROUNDS)]
    count = len(sweep.cells())
    apart, demo = (statistics.fmean(each[at] for each in rounds) for at in (0, 1))
    reference = SHOWN.format(cores=CORES, cell=apart, cells=count, taken=ROUNDS * MEASURED, demo=demo)
    ratios = [one * count / whole for one, whole in rounds]
    return item_of("demo_vs_process_per_cell", ratios, reference, target=Target(10))


def one_round(cells: list[Cell]) -> tuple[float, float]:
    """Seconds for each of these cells, with as many at once as there are cores, and for the whole demo."""
    with tempfile.TemporaryDirectory() as folder:
        demo = run_demo(Path(folder)).seconds
        runs = run_apart(Path(folder) / "results", cells)
    return statistics.fmean(run.seconds for run in runs) / CORES, demo


def can_run_alone(sweep: Sweep, cell: Cell) -> bool:
    """Whether a cell needs no calibration, which the plain loop does not do."""
    from lofi.methods.registry import get_reducer
    from lofi.methods.schedule import Fitted, Searched

    reducer = get_reducer(sweep.method(cell.method).reducer)
    return reducer.count != "calibrated" and not isinstance(reducer.schedule, Fitted | Searched)


def run_demo(folder: Path) -> Taken:
    where = ["--directory", str(folder), "--snakefile", str(REPOSITORY / "Snakefile")]
    return taken(["snakemake", "--cores", str(CORES), *where, "--scheduler", "greedy", "--quiet", "all"])


def run_apart(results: Path, cells: list[Cell]) -> list[Taken]:
    """Each cell in a process of its own, as many at once as there are cores."""
    command = [sys.executable, str(Path(__file__).parent / "naive_cell.py"), str(results)]
    names = [[cell.model, cell.dataset, cell.method, cell.keep, str(cell.seed)] for cell in cells]
    with ThreadPoolExecutor(CORES) as pool:
        return list(pool.map(lambda name: taken([*command, *name]), names))
