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
from lofi.models.conversation import template_text
from lofi.scoring.registry import get_scorer
from lofi.sweep import DatasetSpec, MethodSpec, ModelSpec, Sweep

MODEL_FIELDS = ("source", "revision", "dtype", "attention")
DATASET_FIELDS = ("revision", "prompt_style")
# Settings that came later, with what they are where nobody sets them: only another value is in a key.
MODEL_DEFAULTS = {
    "min_pixels": None,
    "max_pixels": None,
    "template": None,
    "image_mode": "original",
    "threads": 1,
}
DATASET_DEFAULTS = {"scoring_mode": "logits", "exif": "ignored"}
# What a card says beside how its questions are made: `prepare` does not look at it.
BESIDE_DOCS = ("title", "text", "licence", "aliases", "n_questions", "n_images", "scorer", "metrics", "traps")

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
    """The hash under which the answers of one shard of one cell are stored.

    `model` gives source, revision (a digest of its files), dtype, attention, the limits of an image's pixels, the text
    of the conversation template, the image mode and the threads; `dataset` gives revision (a digest of the prepared
    questions and images, so that it covers `limit`), prompt_style, scoring_mode and exif. Whatever else they hold, such
    as device and batch size, is left out, and so is the scorer: answers are graded after they are stored. The names are
    in, because every row carries them.
    """
    return _digest(
        {
            **_numbers(method, cell),
            "model": _model_numbers(model, method),
            "dataset": {**{field: dataset[field] for field in DATASET_FIELDS}, **_set(dataset, DATASET_DEFAULTS)},
            "shard": shard,
            "shards": shards,
        }
    )


def scorer_of(dataset: DatasetSpec) -> str:
    """The scorer that grades a dataset's answers: the config's, else that of the card for this prompt style."""
    return dataset.scorer or get_card(dataset.card_name).scorer_of(dataset.prompt_style)


def planned_docs(dataset: DatasetSpec) -> str:
    """The hash of all that `prepare` makes a dataset's questions and images from, as far as the config tells."""
    card = get_card(dataset.card_name)
    entries = {**vars(card), "join": card.join and asdict(card.join)}
    fields = ("name", "source", "limit", "prompt_style", "exif")
    return _digest(
        {
            "card": {field: value for field, value in entries.items() if field not in BESIDE_DOCS},
            "dataset": {field: getattr(dataset, field) for field in fields},
        }
    )


def planned_answers(sweep: Sweep, cell: Cell) -> str:
    """`cell_key` from the config alone, with no digest of files that are not here yet."""
    model, dataset = sweep.model(cell.model), sweep.dataset(cell.dataset)
    method = sweep.method(cell.method)
    return _digest(
        {
            **_numbers(method, cell),
            "model": _model_numbers({**vars(model), "template": _template(model)}, method),
            "docs": planned_docs(dataset),
            "scoring_mode": dataset.scoring_mode,
            "shards": sweep.shards,
        }
    )


def planned_key(sweep: Sweep, cell: Cell) -> str:
    """What a cell's answers and grades come from; the workflow publishes a cell again where this changed."""
    scorer = scorer_of(sweep.dataset(cell.dataset))
    return _digest(
        {"answers": planned_answers(sweep, cell), "scorer": scorer, "version": get_scorer(scorer).version},
    )


def _model_numbers(model: Mapping[str, Any], method: MethodSpec) -> dict[str, Any]:
    """What of a model's settings can change the numbers of a method."""
    tower = {"text_tower": None} if _reads_tower(method) else {}
    return {**{field: model[field] for field in MODEL_FIELDS}, **_set(model, {**MODEL_DEFAULTS, **tower})}


def _template(model: ModelSpec) -> str | None:
    """The text of the conversation template, where the config names one."""
    return None if model.template is None else template_text(model.template)


def _set(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are not as they are by default."""
    return {field: settings[field] for field, value in defaults.items() if settings.get(field, value) != value}


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
    canonical = json.dumps(content, sort_keys=True, allow_nan=False, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:LENGTH]
