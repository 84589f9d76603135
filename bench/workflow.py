"""What the workflow takes around its jobs: to plan a large sweep, and to find that a finished one has nothing to do.

Snakemake runs as a user starts it. The jobs are those of the stub, which writes a cell's files in an instant.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from item import Item, Target, item_of
from process import Taken, taken

from lofi.config import check_models, from_dict, load
from lofi.data.registry import dataset_names
from lofi.identity import planned_key
from lofi.request import requests

REPOSITORY = Path(__file__).parent.parent
sys.path.append(str(REPOSITORY))  # the stub and its workflow are those of the tests

from tests.workflow.conftest import PACKED, UNPACKED, Workflow, write_stub  # noqa: E402

METHODS = (
    "random",
    "grid_1d",
    "pool",
    "divprune",
    "tome",
    "visionzip",
    "fastervlm",
    "hiprune",
    "lofi",
    "lofi_adaptive",
)
KEEPS = [0.5, 0.3333, 0.25, 0.125, 0.0625]
CORES = len(os.sched_getaffinity(0))
ROUNDS = 3


def plan_10k_cells() -> Item:
    """Seconds of a dry run of 10,000 cells of which nothing is there."""
    with tempfile.TemporaryDirectory() as folder:
        packed = stubbed(Path(folder) / "packed", models=10, datasets=20, pack=PACKED)
        runs = [snakemake(packed, "--dry-run") for _ in range(ROUNDS)]
        apart = snakemake(stubbed(Path(folder) / "apart", models=10, datasets=20, pack=UNPACKED), "--dry-run")
        own = statistics.median(planning(packed.folder / "sweep.yaml") for _ in range(ROUNDS))
    reference = (
        f"a dry run of {cells_of(packed)} cells at the default pack, {shown(runs)} of CPU; with pack: [], a job for "
        f"each cell, {apart.seconds:.1f} s and {apart.cpu_seconds:.1f} s; of these "
        f"lofi's own planning, from the config to the keys of all cells: {own:.2f} s of CPU (wanted: less than 2)"
    )
    seconds = [run.seconds for run in runs]
    return item_of("plan_10k_cells", seconds, reference, unit="s", target=Target(30, at_most=True))


def noop_rerun_1k_cells() -> Item:
    """Seconds until a finished sweep of 1,000 cells has nothing to do."""
    with tempfile.TemporaryDirectory() as folder:
        workflow = stubbed(Path(folder), models=4, datasets=5, pack=PACKED)
        made = snakemake(workflow, "--cores", str(CORES))
        jobs = len(workflow.calls())
        runs = [snakemake(workflow, "--cores", str(CORES)) for _ in range(ROUNDS)]
        if again := workflow.calls():
            raise SystemExit(f"a finished sweep ran again: {again[0]}")
    reference = (
        f"a finished sweep of {cells_of(workflow)} cells at the default pack, {shown(runs)} of CPU; "
        f"its {jobs} jobs of a stub took {made.seconds:.0f} s"
    )
    seconds = [run.seconds for run in runs]
    return item_of("noop_rerun_1k_cells", seconds, reference, unit="s", target=Target(10, at_most=True))


def stubbed(folder: Path, *, models: int, datasets: int, pack: list[str]) -> Workflow:
    """So many models and datasets, with ten methods at five keeps each."""
    model = write_stub(folder)
    sweep = {
        # entries that are equal but for their names are refused
        "models": {f"m{i}": {"source": str(model), "batch_images": i + 1} for i in range(models)},
        "datasets": {name: {} for name in dataset_names()[:datasets]},
        "methods": {name: {} for name in METHODS},
        "keeps": KEEPS,
        "pack": pack,
        "stability_images": 0,
    }
    return Workflow(folder, sweep, stub=True)


def snakemake(workflow: Workflow, *arguments: str) -> Taken:
    """One start of Snakemake, with all that it starts."""
    command = workflow.command("--scheduler", "greedy", "--quiet", "rules", *arguments)
    return taken(command, REPOSITORY, workflow.environment)


def planning(config: Path) -> float:
    """CPU seconds of all that the Snakefile asks lofi for."""
    start = time.process_time()
    sweep = load(config)
    check_models(sweep)
    sweep.packed()
    requests(sweep)
    for cell in sweep.cells():
        planned_key(sweep, cell)
    return time.process_time() - start


def cells_of(workflow: Workflow) -> str:
    return f"{len(from_dict(workflow.sweep).cells()):,}"


def shown(runs: list[Taken]) -> str:
    return f"{statistics.median(run.cpu_seconds for run in runs):.1f} s"
