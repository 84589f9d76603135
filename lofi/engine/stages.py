"""The two stages that run a model: `reference` and `evaluate`. Both resume from the cell cache.

A job whose cells all lie in the cache publishes them and imports neither torch nor the model's library.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lofi.cell import Cell
from lofi.engine.job import Job
from lofi.startup import large_imports


@dataclass(frozen=True)
class Tally:
    """What a stage did."""

    computed: int
    from_cache: int


def reference(job: Job) -> Tally:
    """The full cell, the noise floor, and the states and means that every other cell is compared with."""
    done = all(job.cache(cell, kind).is_finished(sum(job.part_rows(kind))) for cell, kind in job.reference_tables)
    if not done:
        with large_imports("transformers"):
            from lofi.engine.parts import compute_reference

        compute_reference(job)
    for cell in job.references:
        job.publish(cell)
    for kind in ("hidden", "means"):
        job.cache(job.references[0], kind).publish(job.reference_file(kind))
    return Tally(0, 2) if done else Tally(2, 0)


def evaluate(job: Job, cells: Sequence[Cell]) -> Tally:
    """Every cell asked for: taken from the cache where it is finished, computed where it is not, then published."""
    missing = [cell for cell in cells if not job.cache(cell).is_finished(job.n_samples)]
    if missing:
        with large_imports("transformers"):
            from lofi.engine.parts import compute_cells

        compute_cells(job, missing)
    for cell in cells:
        job.publish(cell)
    return Tally(len(missing), len(cells) - len(missing))
