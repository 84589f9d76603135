"""Assembling the store's rows: who the sample is, what was kept, what was answered. Grading comes after them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lofi.cell import Cell, keep_share
from lofi.data.docs import Doc
from lofi.engine.decode import Generated
from lofi.engine.kept import Kept
from lofi.engine.readout import Choice
from lofi.store import SAMPLES, SCHEMA_VERSION, column
from lofi.sweep import GENERATE

OF_DOC = ("sample_id", "image_hash", "doc_hash", "prompt_hash", "task_type")  # docs and samples share these names
FROM_LOGITS = {"mcq": "letters", "yesno": "yesno"}


@dataclass(frozen=True)
class Constants:
    """What is the same for every row of a job."""

    values: Mapping[str, str]  # run_id, model, dataset, their revisions, split, prompt_style, dtype, weights, ...
    n_layers: int
    batch_size: int
    scoring_mode: str = "logits"  # or generate: also where there are options

    def mode(self, doc: Doc) -> str:
        """Where the answer to a question comes from: the logits of its options, or generated text."""
        free = self.scoring_mode == GENERATE or not doc.option_labels
        return GENERATE if free else FROM_LOGITS[doc.task_type]


def table(columns: Mapping[str, Any], n: int) -> pa.Table:
    """Columns under the frozen schema; a column that is not given is null, an unknown one is an error."""
    if extra := columns.keys() - set(SAMPLES.names):
        raise ValueError(f"columns outside the schema: {', '.join(sorted(extra))}")
    arrays = [
        pa.nulls(n, field.type) if columns.get(field.name) is None else column(field.name, columns[field.name])
        for field in SAMPLES
    ]
    return pa.Table.from_arrays(arrays, schema=SAMPLES)


def identity(
    constants: Constants, cell: Cell, params_hash: str, docs: Sequence[Doc], n_visual: int | None
) -> dict[str, Any]:
    """The columns that say which sample of which cell a row is; n_visual is None where nobody has counted."""
    n = len(docs)
    fixed: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        **constants.values,
        "method": cell.method,
        "method_params_hash": params_hash,
        "keep": cell.keep,
        "keep_ratio": keep_share(cell.keep, n_visual),
        "seed": cell.seed,
        "n_visual_full": n_visual,
        "batch_size": constants.batch_size,
    }
    return {
        **{name: [value] * n for name, value in fixed.items()},
        **{name: [getattr(doc, name) for doc in docs] for name in OF_DOC},
        "scoring_mode": [constants.mode(doc) for doc in docs],
    }


def failed_table(constants: Constants, cell: Cell, params_hash: str, docs: Sequence[Doc], error: str) -> pa.Table:
    """Rows of samples that could not be evaluated: everything null but who they are and why."""
    n = len(docs)
    columns = identity(constants, cell, params_hash, docs, None)
    return table({**columns, "status": ["error"] * n, "error": [error] * n}, n)


def kept_columns(kept: Kept, positions: str, row: np.ndarray) -> dict[str, Any]:
    """What a cell kept of each sample's image; `row` (m,) is each sample's row in the batch."""
    per_layer = [kept.per_layer[i] for i in row]
    return {
        "positions": [positions] * len(row),
        "n_visual_kept": [layers[-1] for layers in per_layer],
        "n_kept_per_layer": per_layer,
        "mean_visual_tokens": [sum(layers) / len(layers) for layers in per_layer],
        "kept_indices": kept.indices and [kept.indices[i].cpu().numpy().astype(np.uint16) for i in row],
        "trace": [_finite(kept.traces[i]) for i in row],
    }


def _finite(trace: Mapping[str, float]) -> list[tuple[str, float | None]]:
    """A trace as the store holds it: what is undefined is null, never NaN."""
    return [(name, value if math.isfinite(value) else None) for name, value in trace.items()]


def answer_columns(
    choices: Sequence[Choice | None], generated: Sequence[Generated | None], texts: Sequence[str]
) -> dict[str, Any]:
    """Predictions, not graded yet: the generated text where one was asked for, else the likeliest option."""
    return {
        "prediction": [
            text if answer else choice.label if choice else None
            for choice, answer, text in zip(choices, generated, texts, strict=True)
        ],
        "n_generated": [len(answer.ids) if answer else 0 for answer in generated],
        "finish_reason": [answer.finish if answer else None for answer in generated],
        "gen_token_ids": [answer.ids if answer else None for answer in generated],
        "gen_logprobs": [answer.logprobs if answer else None for answer in generated],
    }
