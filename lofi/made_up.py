"""Made-up sweeps of any size: no model runs, but files have the schema, the columns and the width of real ones.

What is expensive to make is made once for each (model, dataset): a cell's rows are those of its full cell, with other
answers where its treatment changed them and with spectra that moved. No sample fails.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lofi import store
from lofi.cell import FLOOR, FULL, Cell, keep_share, kept_count
from lofi.errors import UserError
from lofi.sweep import Sweep

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Columns = Mapping[str, Any]

METHODS = ("random", "divprune", "visionzip", "fastervlm", "lofi", "hiprune", "gprune", "vispruner", "holov", "scope")
KEEPS = (0.75, 0.5, 0.375, 0.25, 0.125, 0.0625)
KINDS = {"digits-pope": ("yes", "no"), "digits-sqa": ("A", "B", "C", "D"), "digits-vqa": ("seven", "three", "two", "6")}
MODES = {"digits-pope": ("yesno", "yesno"), "digits-sqa": ("mcq", "letters"), "digits-vqa": ("open", "generate")}
OF_AN_IMAGE = 3  # questions
N_VISUAL, N_LAYERS, TOP = 144, 8, 64
SETS = tuple(
    (site, tokens, centred)
    for tokens, centred, site in product(
        ("visual", "text"), (False, True), ("projector", "llm_0", "llm_1_4", "llm_1_2", "llm_3_4", "llm_last")
    )
    if (site, tokens) != ("projector", "text")
)
MADE_ON = {
    "device": "cpu",
    "machine": {"processor": "none"},
    "decoder": {"flops_per_token": 1000.0, "flops_per_pair": 10.0, "cache_bytes_per_token": 64.0},
}


def config_of(models: int, datasets: int, methods: int, keeps: int) -> dict[str, Any]:
    """The config of so many of each; methods are real names, models and datasets are not."""
    for name, asked, most in (("methods", methods, len(METHODS)), ("keeps", keeps, len(KEEPS))):
        if not 0 < asked <= most:
            raise UserError(f"--{name} {asked} is outside 1 to {most}")
    if min(models, datasets) < 1:
        raise UserError(f"--models {models} and --datasets {datasets} make no sweep; give 1 or more of both")
    cards = list(KINDS)
    return {
        "models": {f"model-{i}": {"source": f"made-up-{i}"} for i in range(models)},
        "datasets": {
            f"dataset-{i}": {"card": cards[i % len(cards)], "source": f"made-up-{i}"} for i in range(datasets)
        },
        "methods": {name: {} for name in METHODS[:methods]},
        "keeps": list(KEEPS[:keeps]),
        "stability_images": 0,
    }


def write_samples(sweep: Sweep, results: Path, n: int) -> int:
    """Write n samples of every cell as the store does; returns how many files that are."""
    if n < 1:
        raise UserError(f"--samples {n} is no number of samples; give 1 or more")
    pairs: dict[tuple[str, str], list[Cell]] = {}
    for cell in sweep.cells():
        pairs.setdefault((cell.model, cell.dataset), []).append(cell)
    with ThreadPoolExecutor() as threads:
        for (model, dataset), cells in pairs.items():
            full = _full(model, dataset, sweep.dataset(dataset).card_name, n)
            for _ in threads.map(lambda cell, full=full: _write(cell, full, results), cells):
                pass
    return sum(map(len, pairs.values()))


@dataclass(frozen=True)
class _Full:
    """The full model's rows of one dataset, and what a reduced cell needs to differ from them."""

    card: str
    table: pa.Table
    truth: Integers  # (n,) places among the options
    said: Integers  # (n,)
    margin: Floats  # (n,)
    spectra: tuple[pa.Array, ...]  # the fields of all entries, row by row


def _write(cell: Cell, full: _Full, results: Path) -> None:
    table = full.table
    for name, values in _columns(cell, full).items():
        table = table.set_column(table.schema.get_field_index(name), store.SAMPLES.field(name), values)
    store.write_table(table, results / cell.path(), {"key": f"made up: {cell}", "model": cell.model, **MADE_ON})


def _full(model: str, dataset: str, card: str, n: int) -> _Full:
    rng, of_dataset = (
        np.random.default_rng([*f"{model}/{dataset}".encode()]),
        np.random.default_rng([*dataset.encode()]),
    )
    options = len(KINDS[card])
    truth = of_dataset.integers(options, size=n)
    said = np.where(rng.random(n) < 0.75, truth, rng.integers(options, size=n))
    margin = rng.gamma(2.0, size=n) + 0.01
    kind = store.SPECTRUM
    named = [
        pa.array(np.resize([of[place] for of in SETS], n * len(SETS)), kind.field(place).type) for place in range(3)
    ]
    sizes = pa.array(np.full(n * len(SETS), N_VISUAL), pa.int32())
    values = [_float32(np.exp(rng.normal(-1, 0.3, n * len(SETS)))) for _ in store.STATISTICS]
    columns = {**_identity(model, dataset, card, n), **_timings(rng, n)}
    table = pa.table(
        [
            columns[name] if name in columns else pa.nulls(n, store.SAMPLES.field(name).type)
            for name in store.SAMPLES.names
        ],
        schema=store.SAMPLES,
    )
    return _Full(card, table, truth, said, margin, (*named, sizes, *values))


def _identity(model: str, dataset: str, card: str, n: int) -> dict[str, pa.Array]:
    """What a sample is, whatever its treatment."""
    task, mode = MODES[card]
    once = {
        "schema_version": store.SCHEMA_VERSION,
        **{"run_id": "made-up", "model": model, "model_revision": "r1", "dataset": dataset, "split": "test"},
        **{"dataset_revision": "d1", "weights": "none", "task_type": task, "prompt_style": "lmms_eval"},
        **{"template_hash": f"template of {model}", "image_mode": "original", "positions": "reindexed"},
        **{"n_visual_full": N_VISUAL, "n_text_tokens": 25, "scoring_mode": mode, "scorer": task, "scorer_version": 1},
        **{"parse_status": "ok", "dtype": "float32", "device": "cpu", "batch_size": 32, "status": "ok"},
    }
    images = [i // OF_AN_IMAGE for i in range(n)]
    samples = [f"{dataset}-{i:07d}" for i in range(n)]
    each = {
        **{"sample_id": samples, "group_id": samples, "doc_hash": [f"{i:032x}" for i in range(n)]},
        **{"cluster_id": [f"{i:032x}" for i in images], "image_hash": [f"{i:032x}" for i in images]},
        "category": [("count", "position", "exists")[i % 3] for i in range(n)],
    }
    return {
        **{name: store.column(name, pa.repeat(value, n)) for name, value in once.items()},
        **{name: store.column(name, values) for name, values in each.items()},
    }


def _timings(rng: np.random.Generator, n: int) -> dict[str, pa.Array]:
    names = ("t_vision_ms", "t_select_ms", "t_prefill_ms", "t_decode_ms", "entropy", "logsumexp")
    return {name: _float32(rng.gamma(4.0, size=n)) for name in names}


def _columns(cell: Cell, full: _Full) -> dict[str, pa.Array]:
    """What one treatment makes of the samples."""
    rng, n = np.random.default_rng([*str(cell).encode()]), len(full.said)
    kept = kept_count(cell.keep, N_VISUAL)
    harm = {FULL: 0.0, FLOOR: 0.01}.get(cell.method, 0.3 * (1 - kept / N_VISUAL) + 0.02 * (len(cell.method) % 5))
    options = KINDS[full.card]
    changed = rng.random(n) < harm / (0.5 + full.margin / 2)
    said = np.where(changed, (full.said + rng.integers(1, len(options), size=n)) % len(options), full.said)
    text = pa.array(options).take(pa.array(said))
    right = said == full.truth
    divergence = harm * rng.gamma(1.0, size=n) + (0 if cell.method == FULL else 1e-7)
    made: dict[str, Any] = {
        **{name: pa.repeat(value, n) for name, value in _treatment(cell, kept).items()},
        "n_kept_per_layer": _lists(np.full((n, N_LAYERS), kept), pa.uint16()),
        "kept_indices": _lists(np.tile(np.arange(kept) * N_VISUAL // kept, (n, 1)), pa.uint16()),
        **{"target": pa.array(options).take(pa.array(full.truth)), "prediction": text, "prediction_parsed": text},
        **{"score": pa.array(right, pa.float32()), "correct": pa.array(right), "margin": _float32(full.margin)},
        **{"kl_full_to_this": pa.array(divergence), "kl_this_to_full": pa.array(divergence * 1.1)},
        **{"js": pa.array(divergence / 8), "tv": pa.array(np.sqrt(divergence / 8))},
        **_answer(full, said, rng),
        "spectra": _spectra(full, harm, rng),
    }
    return {name: values.cast(store.SAMPLES.field(name).type) for name, values in _encoded(made)}


def _encoded(columns: Columns) -> Iterator[tuple[str, pa.Array]]:
    for name, values in columns.items():
        encoded = pa.types.is_dictionary(store.SAMPLES.field(name).type)
        yield name, values.dictionary_encode() if encoded else values


def _treatment(cell: Cell, kept: int) -> dict[str, Any]:
    return {
        **{"method": cell.method, "method_params_hash": f"of {cell.method}", "keep": cell.keep, "seed": cell.seed},
        **{"keep_ratio": keep_share(cell.keep, N_VISUAL), "n_visual_kept": kept, "mean_visual_tokens": float(kept)},
    }


def _answer(full: _Full, said: Integers, rng: np.random.Generator) -> dict[str, pa.Array]:
    """The tokens at the first answer position, and the options or the text behind it."""
    n, options = len(said), KINDS[full.card]
    logits = -np.sort(rng.gamma(2.0, size=(1, TOP)), axis=1) - rng.random((n, TOP)) / 8 - full.margin[:, None]
    logits[:, 0] = -rng.random(n) / 8
    tokens = (said[:, None] + np.arange(TOP)) % 1000
    made = {
        "topk_token_ids": _lists(tokens, pa.int32()),
        "topk_logprobs": _lists(logits, pa.float32()),
        "ref_topk_logprobs": _lists(logits - 0.01, pa.float32()),
        "top1_token_id": pa.array(tokens[:, 0], pa.int32()),
    }
    if MODES[full.card][1] == "generate":
        words = {
            "gen_token_ids": _lists(tokens[:, :3], pa.int32()),
            "gen_logprobs": _lists(logits[:, :1] / 2, pa.float32()),
        }
        return {**made, **words, "finish_reason": pa.repeat("stop", n), "n_generated": pa.repeat(1, n)}
    shares = -full.margin[:, None] - rng.random((n, len(options)))
    shares[np.arange(n), said] = -rng.random(n) / 8
    labels = pa.array(options).take(pa.array(np.tile(np.arange(len(options)), n)))
    return {
        **made,
        "option_labels": pa.ListArray.from_arrays(_offsets(n, len(options)), labels),
        "option_token_ids": _lists(np.tile(np.arange(len(options)), (n, 1)), pa.int32()),
        "option_logprobs": _lists(shares, pa.float32()),
        "answer_mass": _float32(np.exp(-rng.random(n) / 8)),
        "top1_is_option": pa.array(rng.random(n) < 0.95),
    }


def _spectra(full: _Full, harm: float, rng: np.random.Generator) -> pa.Array:
    """Those of the full model, moved: each image by another factor, the more so the more a method harms."""
    n = len(full.said)
    moved = np.exp(harm * (1 + rng.normal(0, 0.2, n))).repeat(len(SETS)).astype(np.float32)
    *named, sizes = full.spectra[:4]
    values = [pa.array(statistic.to_numpy() * moved) for statistic in full.spectra[4:]]
    entries = pa.StructArray.from_arrays([*named, sizes, *values], fields=list(store.SPECTRUM))
    return pa.ListArray.from_arrays(_offsets(n, len(SETS)), entries)


def _lists(values: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:
    """A list for each row; values: (n, length)."""
    n, length = values.shape
    return pa.ListArray.from_arrays(_offsets(n, length), pa.array(values.ravel()).cast(kind, safe=False))


def _offsets(n: int, length: int) -> pa.Array:
    return pa.array(np.arange(n + 1, dtype=np.int32) * length)


def _float32(values: Floats) -> pa.Array:
    return pa.array(values.astype(np.float32))
