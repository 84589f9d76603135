"""The checked sweep, the paths of files, and what a job is called with.

REQUIRED: `config`, as Snakemake merged it from the config files and --config.
"""

import hashlib
import re
import sys
from pathlib import Path

from snakemake.utils import update_config

from lofi.cell import FLOOR, FULL, KEEP_ALL, Cell, stability_path
from lofi.config import check_models, from_dict
from lofi.errors import UserError
from lofi.identity import planned_answers, planned_docs, planned_key
from lofi.request import requests
from lofi.strict_yaml import read_mapping, read_overrides
from lofi.sweep import AXES


def checked_sweep():
    """Return the sweep, or end here with one line: an exception would come with the Snakefile's traceback."""
    try:
        # Snakemake itself lets the last of two equal keys win.
        for path in {*workflow.configfiles, *workflow.overwrite_configfiles}:
            read_mapping(Path(path))
        update_config(
            config, read_overrides(workflow.config_settings.config_args or [])
        )
        sweep = from_dict(config)
        check_models(sweep)
    except UserError as error:
        sys.exit(f"lofi: {error}")
    return sweep


SWEEP = checked_sweep()
DOCS = "results/data/{dataset}/docs.parquet"
IMAGES = "results/data/{dataset}/images.parquet"
STATES = "results/reference/model={model}/dataset={dataset}/shard-{shard}.parquet"
STATES_IMAGES = (
    "results/reference/model={model}/dataset={dataset}/images-{shard}.parquet"
)
STABILITY = f"results/{stability_path('{model}', '{dataset}')}"
PACKED = SWEEP.packed()
UNPACKED = [axis for axis in AXES if axis not in SWEEP.pack]
REQUESTS = requests(SWEEP)


def write_sweep():
    """Write the sweep, with every default filled in, for the jobs to read: after --configfile and --config."""
    plan = Path("results/sweep.json")
    plan.parent.mkdir(parents=True, exist_ok=True)
    draft = plan.with_suffix(".draft")
    draft.write_text(SWEEP.to_json())
    draft.replace(plan)


def cell_path(method="{method}", keep="{keep}", seed="{seed}"):
    """Return the path of a cell's file, with wildcards for all that is not given."""
    path = Cell("{model}", "{dataset}", method, keep, seed).path()
    return f"results/{path}".replace("shard-0000", "shard-{shard}")


def every_cell():
    """Return the files of all cells."""
    return [
        f"results/{cell.path(shard)}"
        for cell in SWEEP.cells()
        for shard in range(SWEEP.shards)
    ]


def every_stability():
    """Return the files of self-agreement; none where it is not measured."""
    return [f"results/{path}" for path in SWEEP.stability_files()]


def log_path(stage, *axes):
    """Return a log file's path, with a wildcard for each axis."""
    *folders, last = (f"{axis}={{{axis}}}" for axis in axes)
    return str(Path("logs", stage, *folders, f"{last}.log"))


def planned_dataset(wildcards):
    """Return the hash of all that `prepare` depends on, so that a change prepares the dataset again."""
    return planned_docs(SWEEP.dataset(wildcards.dataset))


def planned_reference(wildcards):
    """Return the keys of `full` and `floor`, so that a change of the model runs them again."""
    return digest(
        Cell(wildcards.model, wildcards.dataset, method, KEEP_ALL)
        for method in (FULL, FLOOR)
    )


def planned_evaluation(wildcards):
    """Return the keys of the cells of one job in one hash, so that a changed parameter runs these cells again."""
    fixed = {axis: wildcards[axis] for axis in UNPACKED}
    treatments = [{**fixed, **packed} for packed in PACKED]
    return digest(
        Cell(
            wildcards.model,
            wildcards.dataset,
            each["method"],
            each["keep"],
            int(each["seed"]),
        )
        for each in treatments
    )


def planned_stability(wildcards):
    """Return the number of images and what all reduced cells run; their order and their scorer do not matter."""
    cells = [
        cell
        for cell in SWEEP.reduced_cells()
        if (cell.model, cell.dataset) == (wildcards.model, wildcards.dataset)
    ]
    return f"{SWEEP.stability_images} images, {digest(sorted(cells), planned_answers)}"


def digest(cells, key_of=planned_key):
    """Return the planned keys of cells as one hash."""
    keys = "".join(key_of(SWEEP, cell) for cell in cells)
    return hashlib.sha256(keys.encode()).hexdigest()[:32]


def memory(rule):
    """Return a rule's function from the attempt to MB of main memory."""
    return lambda wildcards, attempt: REQUESTS[rule].at(attempt).memory


def minutes(rule):
    """Return a rule's function from the attempt to its time limit in minutes."""
    return lambda wildcards, attempt: REQUESTS[rule].at(attempt).minutes


def compute_threads(wildcards):
    """Return the CPU threads that a job computes with."""
    return SWEEP.model(wildcards.model).threads


def unpacked_options(wildcards):
    """Return the options that narrow `lofi evaluate` to the cells of one job."""
    return " ".join(f"--{axis} {wildcards[axis]}" for axis in UNPACKED)


def one_of(values):
    """Return the pattern that matches these values and nothing else."""
    return "|".join(sorted({re.escape(str(value)) for value in values}))


wildcard_constraints:
    model=one_of(model.name for model in SWEEP.models),
    dataset=one_of(dataset.name for dataset in SWEEP.datasets),
    method=one_of(method.name for method in SWEEP.methods),
    keep=one_of(cell.keep for cell in SWEEP.reduced_cells()),
    seed=r"\d+",
    shard=r"\d+",
