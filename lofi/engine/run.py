"""Images through any number of cells, batch by batch: the shared work once, one table of rows per cell."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from lofi.cell import Cell
from lofi.data.docs import Doc
from lofi.engine.batch import Batch, Failed, OpenPhoto, askable, clock
from lofi.engine.columns import Constants, answer_columns, failed_table, identity, kept_columns, table
from lofi.engine.decode import Generated, generate
from lofi.engine.kept import Inside, Kept, kept_before
from lofi.engine.measure import Memo, spectra_column, text_spectra, visual_spectra, visual_states
from lofi.engine.memory import in_batches
from lofi.engine.photo import Photo
from lofi.engine.plans import Plan, layouts, selections
from lofi.engine.prefill import Prefilled, State, prefill
from lofi.engine.readout import FullReadout, read_full, read_logits
from lofi.engine.select import Selected
from lofi.engine.session import Session
from lofi.models.adapter import Adapter
from lofi.models.early import EarlyLayers
from lofi.sweep import GENERATE


@dataclass(frozen=True)
class FullRun:
    """What reduced cells are compared with: the full model's last states, and the means that centre spectra."""

    hidden: Mapping[str, Tensor]  # sample_id -> (d,) normed state at the first answer position
    means: Mapping[str, Mapping[str, Tensor]]  # image_hash -> site -> (d,) mean visual token


NO_RUN = FullRun({}, {})


def joined(runs: Sequence[FullRun]) -> FullRun:
    """Runs over different images as one."""
    return FullRun(
        {key: state for run in runs for key, state in run.hidden.items()},
        {key: sites for run in runs for key, sites in run.means.items()},
    )


FULL_FAILED = "the full model failed on this image, so there is nothing to compare with"

Rows = dict[Cell, pa.Table]


@dataclass(frozen=True)
class Shared:
    """What the cells of one batch have in common, made once."""

    full: FullReadout | None  # None where the full model is what is run
    memo: Memo
    early: EarlyLayers


def run_images(
    session: Session, photos: Sequence[Photo], plans: Sequence[Plan], full: FullRun | None
) -> Iterator[tuple[Rows, FullRun]]:
    """`run_batch` on batches of at most `session.constants.batch_size` images, fewer where memory runs out."""

    def work(session: Session, chunk: Sequence[OpenPhoto], plans: Sequence[Plan]) -> tuple[Rows, FullRun]:
        return run_batch(session, chunk, plans, full)

    def lost(session: Session, photo: Photo, plan: Plan, error: str) -> tuple[Rows, FullRun]:
        return {plan.cell: failed_table(session.constants, plan.cell, plan.params_hash, photo.docs, error)}, NO_RUN

    asked, failures = askable(photos)
    if failures:
        yield {plan.cell: _failed_rows(session.constants, plan, failures) for plan in plans}, NO_RUN
    asked.sort(key=_characters)  # rows of one length come together, so that they need little padding
    yield from in_batches(session, asked, plans, work, lost)


def _characters(photo: Photo) -> int:
    return sum(len(doc.prompt) for doc in photo.docs)


def _failed_rows(constants: Constants, plan: Plan, failures: Sequence[Failed]) -> pa.Table:
    return pa.concat_tables(
        failed_table(constants, plan.cell, plan.params_hash, bad.docs, bad.error) for bad in failures
    )


@torch.inference_mode()
def run_batch(
    session: Session, photos: Sequence[OpenPhoto], plans: Sequence[Plan], full: FullRun | None
) -> tuple[Rows, FullRun]:
    """Rows of every planned cell for these images. Without `full`, the one plan is the full model itself.

    Also returns the last plan's own `FullRun`, which is what the reference stage stores.
    """
    constants = session.constants
    opened = [each for each in photos if each.picture]
    failures = [Failed(each.photo.docs, each.error) for each in photos if not each.picture]
    if full is not None:
        failures += [Failed(each.photo.docs, FULL_FAILED) for each in opened if each.photo.image_hash not in full.means]
        opened = [each for each in opened if each.photo.image_hash in full.means]
    parts: dict[Cell, list[pa.Table]] = {
        plan.cell: [_failed_rows(constants, plan, failures)] if failures else [] for plan in plans
    }
    runs: list[FullRun] = []
    for whole in session.open(opened, [plan.method for plan in plans]) if opened else []:
        for batch, group in layouts(whole, plans, constants.batch_size):
            read = None if full is None else _read_full(session.adapter, batch, full)
            shared = Shared(read, Memo(), EarlyLayers(session.adapter))
            for plan, selected in selections(session, batch, group):
                rows, run = run_cell(session, batch, plan, selected, full, shared)
                parts[plan.cell].append(rows)
            runs.append(run)
    return {cell: pa.concat_tables(tables) for cell, tables in parts.items()}, joined(runs)


def run_cell(
    session: Session,
    batch: Batch,
    plan: Plan,
    selected: Selected,
    full: FullRun | None,
    shared: Shared,
) -> tuple[pa.Table, FullRun]:
    """One cell on one batch: prefill, compare with the full model, measure spectra, generate."""
    adapter = session.adapter
    budgets = _budgets(session.constants, batch, adapter.device)
    stages = session.stages(plan.cell, plan.method, batch.n_visual)
    inside = None if stages is None else Inside(adapter, batch, plan.method, plan.cell.seed, stages)
    start = clock(adapter)
    with inside.pruner if inside else nullcontext() as pruner:
        with shared.early.once(inside.first if inside else 0):
            prefilled = prefill(
                adapter,
                batch.questions,
                selected,
                encoded=batch.encoded,
                generates=bool((budgets > 0).any()),
                # a stage looks at every token of its prompt, so a pruner needs the text before the image as well
                system=None if inside else session.system(batch.questions.before),
                pruner=pruner,
            )
        kept = inside.kept() if inside else kept_before(selected, plan.method, len(adapter.layers))
        hidden = prefilled.hidden[_tensor(batch.image, adapter), _tensor(batch.question, adapter)]  # (m, d)
        logits = adapter.logits(hidden)
        prefilled_at = clock(adapter)
        generated = generate(adapter, prefilled, budgets)
    decoded_at = clock(adapter)
    states = visual_states(selected, prefilled)
    full = full or _full_run(batch, prefilled, states)
    m = len(batch.docs)
    measured = {
        "t_vision_ms": [batch.t_vision_ms] * m,
        "t_select_ms": [selected.t_select_ms] * m,
        "t_prefill_ms": [1000 * (prefilled_at - start) / m] * m,
        "t_decode_ms": [1000 * (decoded_at - prefilled_at) / m] * m,
        "spectra": _spectra(batch, prefilled, states, full, shared.memo),
    }
    readout = shared.full or _read_full(adapter, batch, full)
    return _rows(session, batch, plan, kept, logits, generated, readout, measured), full


def _tensor(indices: np.ndarray, adapter: Adapter) -> Tensor:
    return torch.from_numpy(indices).to(adapter.device)


def _budgets(constants: Constants, batch: Batch, device: torch.device) -> Tensor:
    """(b, q) new tokens each question may draw: none where its answer is read from the logits."""
    budgets = torch.zeros(batch.questions.lengths.shape, dtype=torch.long)
    for doc, image, question in zip(batch.docs, batch.image, batch.question, strict=True):
        budgets[image, question] = doc.max_new_tokens if constants.mode(doc) == GENERATE else 0
    return budgets.to(device)


def _read_full(adapter: Adapter, batch: Batch, full: FullRun) -> FullReadout:
    """What the full model says of the samples of a batch."""
    # the same product of the same shape as a cell's, so that equal states give equal logits to the last bit
    states = torch.stack([full.hidden[doc.sample_id].to(adapter.device, adapter.dtype) for doc in batch.docs])
    return read_full(adapter.logits(states))


def _full_run(batch: Batch, prefilled: Prefilled, states: dict[str, State]) -> FullRun:
    """What others need of this pass to be compared with it."""
    hidden = {
        doc.sample_id: prefilled.hidden[i, j] for doc, i, j in zip(batch.docs, batch.image, batch.question, strict=True)
    }
    site_means = {site: state.tokens.double().mean(1).float() for site, state in states.items()}
    means = {
        photo.image_hash: {site: mean[i] for site, mean in site_means.items()} for i, photo in enumerate(batch.photos)
    }
    return FullRun(hidden, means)


def _spectra(batch: Batch, prefilled: Prefilled, states: dict[str, State], full: FullRun, memo: Memo) -> pa.Array:
    device = prefilled.hidden.device
    means = {
        site: torch.stack([full.means[photo.image_hash][site].to(device) for photo in batch.photos]) for site in states
    }
    spectra = visual_spectra(states, means, memo) + text_spectra(prefilled, memo)
    return spectra_column(spectra, batch.image, batch.question)


def _rows(
    session: Session,
    batch: Batch,
    plan: Plan,
    kept: Kept,
    logits: Tensor,
    generated: list[list[Generated | None]],
    full: FullReadout,
    measured: Mapping[str, Any],
) -> pa.Table:
    """The store's rows of one cell on one batch; samples with a failed selection or NaN logits, here
    or in the full model, become errors.

    logits: (m, v) at the first answer position.
    """
    adapter, constants = session.adapter, session.constants
    read = read_logits(logits.nan_to_num(), full, batch.options)
    choices = read.pop("choices")
    answers = [generated[i][j] for i, j in zip(batch.image, batch.question, strict=True)]
    tokenizer = adapter.processor.tokenizer
    texts = [tokenizer.decode(answer.ids, skip_special_tokens=True).strip() if answer else "" for answer in answers]
    m = len(batch.docs)
    columns = {
        **identity(constants, plan.cell, plan.params_hash, batch.docs, batch.n_visual),
        **kept_columns(kept, adapter.policy(str(dict(plan.method.params)["positions"])), batch.image),
        **read,
        **answer_columns(choices, answers, texts),
        **measured,
        "n_text_tokens": batch.questions.lengths.cpu().numpy()[batch.image, batch.question],
        "top1_text": [tokenizer.decode([int(token)]).strip() for token in read["top1_token_id"]],
        "status": ["ok"] * m,
    }
    rows = table(columns, m)
    errors = {s: "the full model's logits are not finite" for s in _where_not(full.finite)}
    errors |= {s: "the logits are not finite" for s in _where_not(torch.isfinite(logits).all(-1))}
    errors |= {s: kept.errors[row] for s, row in enumerate(batch.image.tolist()) if row in kept.errors}
    return _replace_failed(rows, constants, plan.cell, plan.params_hash, batch.docs, errors)


def _where_not(good: Tensor) -> list[int]:
    """The samples of which this (m,) is false."""
    return (~good).nonzero()[:, 0].tolist()


def _replace_failed(
    rows: pa.Table, constants: Constants, cell: Cell, params_hash: str, docs: Sequence[Doc], errors: Mapping[int, str]
) -> pa.Table:
    """The same rows, those of failed samples reduced to who they are and why they failed."""
    if not errors:
        return rows
    good = np.array([s for s in range(len(docs)) if s not in errors], dtype=np.int64)
    failed = [failed_table(constants, cell, params_hash, [docs[s]], error) for s, error in errors.items()]
    return pa.concat_tables([rows.take(good), *failed])
