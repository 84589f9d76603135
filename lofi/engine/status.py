"""How far a sweep is, read from the published files and the cell cache; no model, no torch."""

from collections.abc import Iterator
from pathlib import Path

from lofi.cell import Cell
from lofi.engine.job import Job, open_job
from lofi.errors import UserError
from lofi.sweep import Sweep


def status(sweep: Sweep, results: Path) -> Iterator[str]:
    """One line per cell that is not finished or has errors, grouped by job, and a total at the end."""
    done = total = 0
    for model in sweep.models:
        for dataset in sweep.datasets:
            cells = [cell for cell in sweep.cells() if (cell.model, cell.dataset) == (model.name, dataset.name)]
            total += len(cells) * sweep.shards
            if not (results / "data" / dataset.name / "docs.parquet").exists():
                yield f"{model.name} / {dataset.name}: not prepared; {len(cells) * sweep.shards} cells wait"
                continue
            for shard in range(sweep.shards):
                job = open_job(results, sweep, model.name, dataset.name, shard)
                finished, lines = _job_lines(job, cells)
                done += finished
                yield f"{model.name} / {dataset.name} / shard {shard}: {finished} of {len(cells)} cells done"
                yield from lines
    yield f"{done} of {total} cells done"


def _job_lines(job: Job, cells: list[Cell]) -> tuple[int, list[str]]:
    finished, lines = 0, []
    for cell in cells:
        try:
            cache = job.cache(cell)
        except UserError as error:
            return 0, [f"  {error}"]
        if cache.is_finished(job.n_samples):
            finished += 1
            continue
        parts = sum(span.n_samples for span in job.spans if cache.has_part(span, span.n_samples))
        lines.append(
            f"  {cell.method} keep {cell.keep} seed {cell.seed}: {parts} of {job.n_samples} samples"
            if parts
            else f"  {cell.method} keep {cell.keep} seed {cell.seed}: waiting"
        )
    return finished, lines
