"""What a cell is, as one hash: whatever could change its numbers is in it, and nothing else."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lofi import NUMERICS_VERSION
from lofi.cell import AS_LOADED, Cell
from lofi.data.registry import get_card
from lofi.methods.registry import check_params, get_reducer
from lofi.scoring.registry import get_scorer
from lofi.sweep import DatasetSpec, MethodSpec, Sweep

MODEL_FIELDS = ("source", "revision", "dtype", "attention")
PIXEL_FIELDS = ("min_pixels", "max_pixels")
DATASET_FIELDS = ("revision", "prompt_style", "scorer", "scorer_version", "max_new_tokens")

LENGTH = 32


def cell_key(
    *,
    model: Mapping[str, Any],
    dataset: Mapping[str, Any],
    method: MethodSpec,
    cell: Cell,
    shard: int,
    shards: int,
) -> str:
    """The hash under which the numbers of one shard of one cell are stored.

    `model` gives source, revision (a digest of its files), dtype, attention and the limits of an image's pixels;
    `dataset` gives revision (a digest of the prepared questions and images, so that it covers `limit`) and
    prompt_style. Whatever else they hold, such as device and batch size, is left out. The names are in, because every
    row carries them.
    """
    return _digest(
        {
            **_numbers(method, cell),
            "model": _model_numbers(model, method),
            "dataset": {field: dataset[field] for field in DATASET_FIELDS},
            "shard": shard,
            "shards": shards,
        }
    )


def scoring(dataset: DatasetSpec) -> dict[str, Any]:
    """How answers of a dataset are made and graded, as far as its card says."""
    card = get_card(dataset.card_name)
    scorer = dataset.scorer or card.scorer_of(dataset.prompt_style)
    version = get_scorer(scorer).version
    return {"scorer": scorer, "scorer_version": version, "max_new_tokens": card.max_new_tokens}


def planned_key(sweep: Sweep, cell: Cell) -> str:
    """The same from the config alone, with no digest; the workflow reruns a cell whose key changed."""
    model, dataset = sweep.model(cell.model), sweep.dataset(cell.dataset)
    method = sweep.method(cell.method)
    return _digest(
        {
            **_numbers(method, cell),
            "model": _model_numbers(asdict(model), method),
            "dataset": {field: getattr(dataset, field) for field in ("source", "limit", "prompt_style")},
            "scoring": scoring(dataset),
            "shards": sweep.shards,
        }
    )


def _model_numbers(model: Mapping[str, Any], method: MethodSpec) -> dict[str, Any]:
    """What of a model's settings can change the numbers of a method; those that are not set are not in the key."""
    optional = (*PIXEL_FIELDS, *(("text_tower",) if _reads_tower(method) else ()))
    given = {field: model[field] for field in optional if model.get(field)}
    return {**{field: model[field] for field in MODEL_FIELDS}, **given}


def _reads_tower(method: MethodSpec) -> bool:
    """Whether a model's text tower can change the numbers of a method."""
    return get_reducer(method.reducer).sees_text


def _numbers(method: MethodSpec, cell: Cell) -> dict[str, Any]:
    """`floor` runs the reducer of `full`; the cell's own name keeps them, and all renamed methods, apart."""
    return {
        "numerics": NUMERICS_VERSION,
        "cell": [cell.model, cell.dataset, cell.method, cell.keep, cell.seed],
        "reducer": method.reducer,
        "version": get_reducer(method.reducer).version,
        "params": check_params(method.reducer, dict(method.params)),
        **({} if method.weights == AS_LOADED else {"weights": method.weights}),
    }


def _digest(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:LENGTH]
