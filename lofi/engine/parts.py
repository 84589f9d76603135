"""What a stage computes with a model: the parts that the cell cache lacks, then whole cells of them."""

import gc
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from lofi import NUMERICS_VERSION
from lofi.cell import AS_LOADED, Cell
from lofi.engine.cache import Span
from lofi.engine.calibrate import calibrate
from lofi.engine.columns import Constants
from lofi.engine.job import Job
from lofi.engine.loader import Loader, workers_for
from lofi.engine.plans import Plan
from lofi.engine.run import FullRun, joined, run_images
from lofi.engine.session import Session
from lofi.errors import UserError
from lofi.grace import finishing
from lofi.models.adapter import Adapter
from lofi.models.clip_text import load_text_tower
from lofi.models.load import load_model
from lofi.models.weights import quantise
from lofi.plan.flops import row_costs
from lofi.plan.shape import decoder_of
from lofi.progress import Progress
from lofi.provenance import commit, machine, versions
from lofi.store import read_if_valid

FLOOR_PADDING = 8  # columns; not more memory to speak of, and other shapes for every kernel of the decoder


def compute_reference(job: Job) -> None:
    """The tables of the reference: answers of the full model and of the noise floor, and the full model's states."""
    tables, session = job.reference_tables, open_session(job)
    with Progress(f"reference {job.model.name} / {job.dataset.name}", 2 * job.n_samples) as progress:
        for index, span in enumerate(job.spans):
            lacking = (not job.cache(cell, kind).has_part(span, job.part_rows(kind)[index]) for cell, kind in tables)
            if any(lacking):
                with finishing():
                    _reference_span(job, session, span)
            progress.advance(2 * span.n_samples)
    made = provenance(job, session)
    for cell, kind in tables:
        _finish(job, cell, kind, made)


def _finish(job: Job, cell: Cell, kind: str, made: Mapping[str, Any]) -> None:
    """Join the parts of a table. Answers are graded on the way, so that they are written once."""
    metadata, join = {**made, "cell": str(cell)}, pa.concat_tables
    if kind == "samples":
        metadata, join = {**metadata, "grading": job.grading.stamp}, job.graded
    job.cache(cell, kind).finish(job.spans, job.part_rows(kind), metadata, join=join)


def _reference_span(job: Job, session: Session, span: Span) -> None:
    """One part of the reference. The floor is the same model in batches of another size."""
    full, floor = job.references
    plans = {cell: Plan(cell, job.method(cell), job.params_hash(cell)) for cell in (full, floor)}
    photos = job.photos(span)
    samples: list[pa.Table] = []
    runs: list[FullRun] = []
    for tables, run in run_images(session, photos, [plans[full]], None):
        samples.append(tables[full])
        runs.append(run)
    whole = joined(runs)
    hidden, means = whole.hidden, whole.means
    other = other_layout(session)  # than that of the batches that fit, whatever size was asked for
    floors = [tables[floor] for tables, _ in run_images(other, photos, [plans[floor]], FullRun(hidden, means))]
    ids = [doc.sample_id for photo in photos for doc in photo.docs]
    job.cache(full).write_part(span, pa.concat_tables(samples))
    job.cache(full, "hidden").write_part(span, _hidden_table(ids, hidden))
    job.cache(full, "means").write_part(span, _means_table([photo.image_hash for photo in photos], means))
    job.cache(floor).write_part(span, pa.concat_tables(floors))


def other_layout(session: Session) -> Session:
    """The same model for the floor: batches of fewer images, and rows with padding where there is but one."""
    size = session.constants.batch_size
    fewer = replace(session.constants, batch_size=max(1, size // 8))
    return replace(session, constants=fewer, padding=FLOOR_PADDING if size == 1 else 0)


def compute_cells(job: Job, missing: Sequence[Cell]) -> None:
    """The samples of cells that the cache lacks."""
    full = read_full_run(job)
    with Progress(f"evaluate {job.model.name} / {job.dataset.name}", len(missing) * job.n_samples) as progress:
        for weights, alike in job.by_weights(missing).items():
            _evaluate_alike(job, weights, alike, full, progress)


def _evaluate_alike(job: Job, weights: str, cells: Sequence[Cell], full: FullRun, progress: Progress) -> None:
    """Cells of the same weights, which share a loaded model."""
    session = open_session(job, weights)
    session.fitted = calibrate(session, job, cells)
    for span in job.spans:
        with finishing():
            _evaluate_span(job, session, span, cells, full, progress)
    made = provenance(job, session)
    for cell in cells:
        _finish(job, cell, "samples", made)


def _evaluate_span(
    job: Job, session: Session, span: Span, cells: Sequence[Cell], full: FullRun, progress: Progress
) -> None:
    """One part of every cell that lacks it, batch by batch so that encoding and ranking are shared."""
    lacking = [cell for cell in cells if not job.cache(cell).has_part(span, span.n_samples)]
    progress.advance((len(cells) - len(lacking)) * span.n_samples)
    if not lacking:
        return
    plans = [Plan(cell, job.method(cell), job.params_hash(cell)) for cell in lacking]
    parts: dict[Cell, list[pa.Table]] = {cell: [] for cell in lacking}
    for tables, _ in run_images(session, job.photos(span), plans, full):
        for cell, rows in tables.items():
            parts[cell].append(rows)
            progress.advance(rows.num_rows)
    for cell, tables_of_cell in parts.items():
        job.cache(cell).write_part(span, pa.concat_tables(tables_of_cell))


def open_session(job: Job, weights: str = AS_LOADED) -> Session:
    """The loaded model, its decoder on these weights, ready for this dataset."""
    gc.collect()  # hooks and modules refer to each other: a model before this one lives on, and two may not fit
    spec = job.model
    torch.set_num_threads(spec.threads)  # whatever cores the job was given: its rows must not depend on them
    adapter = load_model(
        spec.source,
        revision=spec.revision,
        dtype=spec.dtype,
        device=spec.device,
        attention=spec.attention,
        min_pixels=spec.min_pixels,
        max_pixels=spec.max_pixels,
        template=spec.template,
        image_mode=spec.image_mode,
    )
    quantised = None if weights == AS_LOADED else quantise(adapter, weights)
    values = {
        "run_id": run_id(job),
        "model": spec.name,
        "model_revision": job.model_revision,
        "dataset": job.dataset.name,
        "split": job.docs.split,
        "dataset_revision": job.docs.revision,
        "prompt_style": job.dataset.prompt_style,
        "template_hash": template_hash(adapter),
        "image_mode": spec.image_mode,
        "dtype": str(adapter.dtype).removeprefix("torch."),
        "weights": weights,
        "attn_impl": adapter.attention,
        "device": adapter.device.type,
    }
    constants = Constants(values, len(adapter.layers), spec.batch_images, job.dataset.scoring_mode)
    tower = spec.text_tower and load_text_tower(spec.text_tower, None, adapter.device, adapter.dtype)
    loader = Loader(adapter.opening, workers_for(spec.workers, adapter.device), job.dataset.exif)
    return Session(adapter, constants, tower or None, quantised, loader=loader)


def template_hash(adapter: Adapter) -> str:
    """A short hash of the text of the conversation template in use."""
    return hashlib.sha256(str(adapter.processor.chat_template).encode()).hexdigest()[:32]


def run_id(job: Job) -> str:
    """A short hash of the whole sweep, wherever its cache lies, which joins rows to their run."""
    sweep = replace(job.sweep, cache=None)
    return hashlib.sha256(json.dumps(sweep.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


def provenance(job: Job, session: Session) -> dict[str, Any]:
    """What the key-value metadata of a cell's file says about its making."""
    return {
        "numerics": NUMERICS_VERSION,
        "commit": commit(),
        "versions": versions(),
        "machine": machine(),
        "device": torch.cuda.get_device_name() if session.adapter.device.type == "cuda" else "cpu",
        "template": session.adapter.chat("{question}"),
        "constants": dict(session.constants.values),
        **({"quantised": asdict(session.quantised)} if session.quantised else {}),
        "batch_images": job.model.batch_images,
        "decoder": _decoder_costs(session.adapter),
        "shard": [job.shard, job.sweep.shards],
    }


def _decoder_costs(adapter: Adapter) -> dict[str, float]:
    """What a token and a pair of tokens cost one decoder layer: with the stored counts, the operations of a prefill."""
    decoder = decoder_of(adapter.config)
    per_token, per_pair = row_costs(decoder)
    return {
        "flops_per_token": per_token,
        "flops_per_pair": per_pair,
        "cache_bytes_per_token": 2 * decoder.keys * adapter.dtype.itemsize,  # a key and a value
    }


def read_full_run(job: Job) -> FullRun:
    """The reference of this job; a missing or foreign one is an error that names the command that makes it."""
    key = job.key(job.references[0])
    hidden, means = (
        read_if_valid(job.reference_file(kind), key, sum(job.part_rows(kind))) for kind in ("hidden", "means")
    )
    if hidden is None or means is None:
        raise UserError(
            f"the reference {job.reference_file('hidden' if hidden is None else 'means')} is missing or belongs to "
            f"another model, dataset or version; run "
            f"`lofi reference --model {job.model.name} --dataset {job.dataset.name} --shard {job.shard}`"
        )
    states = {row["sample_id"]: _tensor(row["hidden"], row["dtype"]) for row in hidden.to_pylist() if row["hidden"]}
    sites = [name for name in means.column_names if name != "image_hash"]
    by_image = {
        row["image_hash"]: {site: _tensor(row[site], "float32") for site in sites}
        for row in means.to_pylist()
        if row[sites[0]]
    }
    return FullRun(states, by_image)


def _hidden_table(ids: Sequence[str], hidden: Mapping[str, Tensor]) -> pa.Table:
    """One row per sample, null where the full model failed on it."""
    states = [hidden.get(key) for key in ids]
    return pa.table(
        {
            "sample_id": pa.array(ids, pa.string()),
            "dtype": pa.array([s if s is None else str(s.dtype).removeprefix("torch.") for s in states], pa.string()),
            "hidden": pa.array([None if s is None else _bytes(s) for s in states], pa.binary()),
        }
    )


def _means_table(hashes: Sequence[str], means: Mapping[str, Any]) -> pa.Table:
    """One row per image and one column per site, null where the image did not decode."""
    sites = list(next(iter(means.values()))) if means else ["projector"]
    columns = {
        site: pa.array([_bytes(means[key][site]) if key in means else None for key in hashes], pa.binary())
        for site in sites
    }
    return pa.table({"image_hash": pa.array(hashes, pa.string()), **columns})


def _bytes(tensor: Tensor) -> bytes:
    return tensor.contiguous().cpu().view(torch.uint8).numpy().tobytes()


def _tensor(content: bytes, dtype: str) -> Tensor:
    return torch.from_numpy(np.frombuffer(bytearray(content), np.uint8)).view(getattr(torch, dtype))
