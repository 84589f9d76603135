"""What some methods must learn from a model and a dataset before they meet a budget. No label is looked at.

Every job of a dataset calibrates on the same images, the dataset's first, so that shards agree.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import chain

import torch

from lofi.cell import Cell, kept_count
from lofi.engine.batch import Batch, OpenPhoto
from lofi.engine.job import Job
from lofi.engine.memory import OutOfMemory, attempt, in_batches
from lofi.engine.prefill import prefill
from lofi.engine.select import keep_all
from lofi.engine.session import Fit, Session
from lofi.errors import UserError
from lofi.methods import fitprune, lofi_adaptive, vtw
from lofi.methods.context import Selection, VisualContext, complement
from lofi.methods.decoder import DecoderView
from lofi.methods.registry import get_reducer
from lofi.methods.schedule import PAPER_DEPTH, Fitted, Searched, Stage, bisect, needs_fit
from lofi.models.staged import PruneBatch
from lofi.sweep import MethodSpec

IMAGES = 64  # for the targets of a method that sets the count of every image
SLACK = 1e-6  # of a mean: a fit refuses means beyond both ends, and floats can be beyond them by an ulp
SAMPLES = 16  # for the counts of every layer: each is one pass for every rate that is tried


@torch.inference_mode()
def calibrate(session: Session, job: Job, cells: Iterable[Cell]) -> dict[MethodSpec, Fit]:
    """What the methods of these cells need, each fitted once for all its keeps."""
    keeps: dict[MethodSpec, set[str]] = {}
    for cell in cells:
        keeps.setdefault(job.method(cell), set()).add(cell.keep)
    found: dict[MethodSpec, Fit] = {}
    for method, wanted in keeps.items():
        schedule = get_reducer(method.reducer).schedule
        if get_reducer(method.reducer).count == "calibrated":
            found[method] = Fit(params={"targets": _targets(session, job, method, wanted)})
        elif isinstance(schedule, Searched | Fitted):
            samples = _samples(session, job, method)
            if not needs_fit(schedule, samples[0].n_visual, session.constants.n_layers):
                continue
            fit = _depth if isinstance(schedule, Searched) else _counts
            found[method] = Fit(counts=fit(session, samples, method, wanted))
    return found


def _batches(session: Session, job: Job, images: int, method: MethodSpec) -> Iterator[Batch]:
    """The first images of the dataset that decode and fit into memory, encoded."""

    def work(session: Session, photos: Sequence[OpenPhoto], methods: Sequence[MethodSpec]) -> list[Batch]:
        return session.open(photos, methods)

    return chain.from_iterable(in_batches(session, job.first_photos(images), [method], work, lambda *_: []))


def _samples(session: Session, job: Job, method: MethodSpec) -> list[Batch]:
    """One batch for each question to which the full model gives finite logits; the others become error rows later."""

    def usable(single: Batch) -> bool:
        ran = attempt(partial(_run, session, single, _everything))
        return not isinstance(ran, OutOfMemory) and bool(torch.isfinite(ran[1]).all())

    singles = (single for batch in _batches(session, job, SAMPLES, method) for single in batch.by_sample(1))
    found = [single for single in singles if usable(single)]
    if not found:
        raise _nothing(method, job, SAMPLES)
    return found


def _nothing(method: MethodSpec, job: Job, images: int) -> UserError:
    return UserError(
        f"methods.{method.name} has nothing to be calibrated on: none of the first {images} images of "
        f"{job.dataset.name} decodes and runs through {job.model.name} in its memory and without NaN or infinity; "
        f"remove the method, or see the errors in the rows of `full`"
    )


def _targets(session: Session, job: Job, method: MethodSpec, keeps: Iterable[str]) -> dict[int, float]:
    """For each budget, the target that meets it in the mean over images."""

    def contexts() -> Iterator[VisualContext]:
        for batch in _batches(session, job, IMAGES, method):
            for row in range(len(batch.photos)):
                context = batch.context(row, sees_text=False)
                if bool(torch.isfinite(context.projected).all()):  # the others become error rows later
                    yield context

    params = {key: str(value) for key, value in method.params if key in ("measure", "rank")}
    usable = contexts()
    first = next(usable, None)
    if first is None:
        raise _nothing(method, job, IMAGES)
    ks = sorted({kept_count(keep, len(first)) for keep in keeps})
    return lofi_adaptive.calibrate(chain([first], usable), ks, **params)


def _depth(
    session: Session, samples: Sequence[Batch], method: MethodSpec, keeps: Iterable[str]
) -> dict[str, list[int]]:
    """How many tokens enter each layer, with all of them before the first that VTW's search can do without them."""
    n, depth = samples[0].n_visual, session.constants.n_layers
    first = max(1, round(vtw.FIRST_CANDIDATE * depth / PAPER_DEPTH))

    def withdrawn(sample: Batch, before: int) -> torch.Tensor:
        def leave(view: DecoderView) -> Selection:
            return Selection(view.visual.new_empty(0)) if view.layer == before else _everything(view)

        return _run(session, sample, leave)[1]

    full = torch.stack([withdrawn(sample, depth) for sample in samples])
    tried = [torch.stack([withdrawn(sample, layer) for layer in range(first, depth)]) for sample in samples]
    layer = vtw.choose_depth(full, torch.stack(tried), float(dict(method.params)["eta"]), first)
    return {keep: [n] * layer + [0] * (depth - layer) for keep in keeps}


def _counts(
    session: Session, samples: Sequence[Batch], method: MethodSpec, keeps: Iterable[str]
) -> dict[str, list[int]]:
    """For each keep, how many tokens FitPrune's fit lets into each layer."""
    n = samples[0].n_visual
    totals = [_totals(session, sample) for sample in samples]

    @cache
    def counts_at(alpha: float) -> tuple[float, ...]:
        rows = [_counts_of(session, sample, total, alpha) for sample, total in zip(samples, totals, strict=True)]
        return tuple(sum(layer) / len(rows) for layer in zip(*rows, strict=True))

    meet = counts_to_last if dict(method.params)["budget"] == "tokens" else fitprune.fit
    found = {}
    for keep in keeps:
        try:
            found[keep] = meet(counts_at, kept_count(keep, n))
        except UserError as error:
            raise UserError(
                f"methods.{method.name} cannot keep {keep}: {error}; change keeps, give the method keeps of its own, "
                "or remove it"
            ) from None
    return found


def counts_to_last(counts_at: Callable[[float], Sequence[float]], k: int) -> list[int]:
    """Whole counts for each layer's input that leave k tokens for the last; `counts_at` is that of `fitprune.fit`."""
    most, least = (sum(counts) / len(counts) for counts in (counts_at(0.0), counts_at(1.0)))
    low, high = least + SLACK, most - SLACK
    fewest = fitprune.fit(counts_at, low)[-1]
    if k < fewest:
        raise UserError(f"FitPrune's fit goes down to {fewest} tokens after the last prune, not to {k}")
    mean, _ = bisect(lambda mean: fitprune.fit(counts_at, mean)[-1] <= k, low, high)
    # Between two rates the last count may jump over k.
    return [max(count, k) for count in fitprune.fit(counts_at, mean)]


def _run(session: Session, sample: Batch, choose: Callable[[DecoderView], Selection]) -> tuple[list[int], torch.Tensor]:
    """One sample with a choice before every layer but the first.

    Gives how many visual tokens entered each layer, and the logits (v,) of the answer's first token.
    """
    adapter = session.adapter
    everywhere = tuple(Stage(layer, 0) for layer in range(1, len(adapter.layers)))
    pruner = PruneBatch(
        adapter,
        everywhere,
        lambda _row, view, _k: choose(view),
        positions="kept",
        grid=sample.grid,
        image_keys=[sample.photos[0].key],
    )
    selected = keep_all(sample, Cell("", "", "", ""), "kept")
    with pruner:
        filled = prefill(adapter, sample.questions, selected, encoded=sample.encoded, pruner=pruner)
    counts = [len(pruner.read[layer].visual[0]) for layer in range(len(adapter.layers))]
    return counts, adapter.logits(filled.hidden[0, 0])


def _everything(view: DecoderView) -> Selection:
    return Selection(torch.arange(len(view.visual), device=view.visual.device))


def _totals(session: Session, sample: Batch) -> dict[int, tuple[float, float]]:
    """Before each layer, the sums of the two scores of the layer before it in the unpruned model."""
    found: dict[int, tuple[float, float]] = {}

    def look(view: DecoderView) -> Selection:
        cross, own = fitprune.cross_and_self(view)
        found[view.layer] = float(cross.sum()), float(own.sum())
        return _everything(view)

    _run(session, sample, look)
    return found


def _counts_of(session: Session, sample: Batch, totals: dict[int, tuple[float, float]], alpha: float) -> Sequence[int]:
    """How many tokens enter each layer where all delete at the rate alpha; one token always stays."""

    def delete(view: DecoderView) -> Selection:
        cross, own = fitprune.cross_and_self(view)
        gone = fitprune.delete_at(alpha, cross, own, *totals[view.layer])
        left = complement(gone, len(view.visual))
        return Selection(left if len(left) else gone[:1])

    return _run(session, sample, delete)[0]
