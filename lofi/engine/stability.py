"""Self-agreement: how many of the tokens a method keeps it still keeps when its features are rounded or noised.

Encoder and projector run once, in float32 whatever the model's type: features of a half-precision run are rounded
already. Reducers then see these features, and again after they have been rounded to a half-precision type, or
multiplied by 1 + 1e-6 times a normal number. Methods inside the LLM, which runs in the model's type, read visual tokens
that were changed like that on entry.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
import torch
from torch import Tensor

from lofi import NUMERICS_VERSION
from lofi.cell import KEEP_ALL, Cell, stability_path
from lofi.engine.batch import Batch, OpenPhoto
from lofi.engine.calibrate import calibrate
from lofi.engine.job import Job
from lofi.engine.kept import Inside
from lofi.engine.memory import in_batches
from lofi.engine.parts import open_session
from lofi.engine.photo import Photo
from lofi.engine.plans import Plan, layouts, selections
from lofi.engine.prefill import prefill
from lofi.engine.select import Selected
from lofi.engine.session import Session
from lofi.progress import Progress
from lofi.store import STABILITY, write_table

NOISE = 1e-6
Kept = frozenset[int] | str  # the tokens of one image, or why there are none
Rows = list[dict[str, object]]


def _noisy(x: Tensor) -> Tensor:
    """Noise from a seed of its own for every tensor, so that the order of tensors cannot matter."""
    generator = torch.Generator().manual_seed(x.numel())
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.device)
    return (x.double() * (1.0 + NOISE * noise)).float()


VARIANTS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "bfloat16": lambda x: x.bfloat16().float(),
    "float16": lambda x: x.half().float(),
    "noise": _noisy,
}


@torch.inference_mode()
def stability(job: Job) -> int:
    """Write the file of one model and dataset, over its first images; the number of rows."""
    # what keeps every token has nothing to choose
    cells = [cell for cell in job.cells() if cell.seed == job.method(cell).seeds[0] and cell.keep != KEEP_ALL]
    photos = job.first_photos(job.sweep.stability_images)
    rows: Rows = []
    total = len(photos) * len(cells) * len(VARIANTS)
    with Progress(f"stability {job.model.name} / {job.dataset.name}", total, "row") as progress:
        for weights, alike in job.by_weights(cells).items():
            for found in _alike(job, weights, alike, photos):
                rows += found
                progress.advance(len(found))
    path = job.results / stability_path(job.model.name, job.dataset.name)
    write_table(
        pa.Table.from_pylist(rows, schema=STABILITY), path, {"numerics": NUMERICS_VERSION, "images": len(photos)}
    )
    return len(rows)


def _alike(job: Job, weights: str, cells: Sequence[Cell], photos: Sequence[Photo]) -> Iterator[Rows]:
    """The rows of cells of the same weights, which share a loaded model."""
    session = open_session(job, weights)
    session.adapter.part(session.adapter.family.tower).float()
    session.adapter.projector.float()
    session.fitted = calibrate(session, job, cells)
    plans = [Plan(cell, job.method(cell), job.params_hash(cell)) for cell in cells]
    return in_batches(session, photos, plans, _chunk, _lost)


def _chunk(session: Session, photos: Sequence[OpenPhoto], plans: Sequence[Plan]) -> Rows:
    """The rows of the images that open."""
    batches = session.open(photos, [plan.method for plan in plans])
    return [row for batch in batches for row in _rows(session, batch, plans)]


def _lost(session: Session, photo: Photo, plan: Plan, error: str) -> Rows:
    """The rows of a cell that does not fit into memory with one image."""
    found = {"status": "error", "error": error}
    return [_row(plan.cell, variant, photo, None, found) for variant in VARIANTS]


def _rows(session: Session, batch: Batch, plans: Sequence[Plan]) -> Iterator[dict[str, object]]:
    """One row per cell, variant and image of a batch with one question per image."""
    plain = kept_sets(session, replace(batch, encoded=batch.encoded.changed(Tensor.float)), plans)
    for variant, change in VARIANTS.items():
        changed = kept_sets(session, replace(batch, encoded=batch.encoded.changed(change)), plans)
        for cell, sets in plain.items():
            for photo, one, other in zip(batch.photos, sets, changed[cell], strict=True):
                yield _row(cell, variant, photo, batch.n_visual, _compared(one, other))


def _row(cell: Cell, variant: str, photo: Photo, n: int | None, found: Mapping[str, object]) -> dict[str, object]:
    return {
        "model": cell.model,
        "dataset": cell.dataset,
        "method": cell.method,
        "keep": cell.keep,
        "seed": cell.seed,
        "variant": variant,
        "image_hash": photo.image_hash,
        "n_visual_full": n,
        **found,
    }


def _compared(one: Kept, other: Kept) -> dict[str, object]:
    if isinstance(one, str) or isinstance(other, str):
        return {"status": "error", "error": one if isinstance(one, str) else other}
    return {"n_kept": len(one), "n_same": len(one & other), "n_kept_variant": len(other), "status": "ok"}


def kept_sets(session: Session, whole: Batch, plans: Sequence[Plan]) -> dict[Cell, list[Kept]]:
    """What every planned cell keeps of every image, each with one question."""
    found: dict[Cell, list[Kept]] = {plan.cell: [] for plan in plans}
    for batch, group in layouts(whole, plans, session.constants.batch_size):
        for plan, selected in selections(session, batch, group):
            found[plan.cell] += _kept(session, batch, plan, selected)
    return found


def _kept(session: Session, batch: Batch, plan: Plan, selected: Selected) -> list[Kept]:
    stages = session.stages(plan.cell, plan.method, batch.n_visual)
    places = [selection.kept for selection in selected.selections]
    errors = dict(selected.errors)
    if stages is not None:
        inside = Inside(session.adapter, batch, plan.method, plan.cell.seed, stages)
        with inside.pruner as pruner:
            prefill(session.adapter, batch.questions, selected, encoded=batch.encoded, pruner=pruner)
        places, errors = list(pruner.left.places), dict(inside.kept().errors)
    return [errors.get(row) or frozenset(kept.tolist()) for row, kept in enumerate(places)]
