"""Made-up sweeps in the store's format: no model, but the shape, gaps and oddities of real samples."""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lofi import store
from lofi.cell import FLOOR, FULL, KEEP_ALL, OWN_COUNT, Cell, kept_count, stability_path

Row = dict[str, Any]
Sweep = dict[Cell, list[Row]]

ANSWERS = {
    "yesno": ["yes", "no"],
    "letters": ["A", "B", "C", "D"],
    "open": ["seven", "three", "two dogs", "left"],
}
DATASETS = {"scenes-yesno": "yesno", "scenes-letters": "letters", "scenes-open": "open"}
METHODS = {"random": (0, 1), "lofi": (0,), "fastv": (0,)}
HARM = {
    **{FULL: 0.0, FLOOR: 0.02, "random": 0.5, "lofi": 0.3, "fastv": 0.4, "prumerge": 0.35, "dart": 0.45},
    **{"divprune": 0.15, "visionzip": 0.2, "fastervlm": 0.22, "cdpruner": 0.25, "tome": 0.28},
}
N_VISUAL = 144
N_LAYERS = 8
VOCABULARY = 8
N_TEXT = 12
MADE_ON = {
    "device": "cpu",
    "machine": {"processor": "Abacus"},
    "decoder": {"flops_per_token": 1000.0, "flops_per_pair": 10.0, "cache_bytes_per_token": 64.0},
}


def samples_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows under the frozen schema, sorted by sample_id; what they lack is null."""
    assert {name for row in rows for name in row} <= set(store.SAMPLES.names)
    return pa.Table.from_pylist(sorted(rows, key=lambda row: str(row["sample_id"])), schema=store.SAMPLES)


def make_sweep(
    *,
    models: Sequence[str] = ("tiny-a", "tiny-b"),
    datasets: Sequence[str] = tuple(DATASETS),
    methods: Mapping[str, Sequence[int]] = METHODS,
    keeps: Sequence[str] = ("0.5000", "0.2500", "16"),
    images: int = 8,
    questions: int = 3,
    own: Sequence[str] = (),
    seed: int = 0,
) -> Sweep:
    """Rows of every cell: some samples fail, some answers cannot be parsed, some spectra are undefined.

    own: methods that set their own count, another one for each image.
    """
    sweep: Sweep = {}
    for model in models:
        for dataset in datasets:
            cells = [Cell(model, dataset, method, KEEP_ALL) for method in (FULL, FLOOR)]
            cells += [
                Cell(model, dataset, method, keep, number)
                for method, numbers in methods.items()
                for keep in keeps
                for number in numbers
            ]
            cells += [Cell(model, dataset, method, OWN_COUNT) for method in own]
            for cell in cells:
                rows = [_row(cell, image, question, seed) for image in range(images) for question in range(questions)]
                _look_up(rows, sweep.get(cells[0], rows))
                sweep[cell] = rows
    return sweep


def write_sweep(sweep: Sweep, results: Path, *, shards: int = 2) -> list[Path]:
    """Write every cell as the store does, in shards; returns the files."""
    files = []
    for cell, rows in sweep.items():
        for shard in range(shards):
            path = results / cell.path(shard)
            metadata = {"key": f"key of {cell}, shard {shard}", "model": cell.model, "lofi": "0.0", **MADE_ON}
            store.write_table(samples_table(rows[shard::shards]), path, metadata)
            files.append(path)
    return files


def _row(cell: Cell, image: int, question: int, seed: int) -> Row:
    kind = DATASETS[cell.dataset]
    identity = [seed, *cell.dataset.encode(), image, question]
    of_question = np.random.default_rng(identity)
    of_model = np.random.default_rng([*identity, *cell.model.encode()])
    of_cell = np.random.default_rng([*identity, *str(cell).encode()])
    options = ANSWERS[kind]
    truth = options[of_question.integers(len(options))]
    kept = 20 + 5 * (image % 3) if cell.keep == OWN_COUNT else kept_count(cell.keep, N_VISUAL)
    # The full model's answer, which this cell keeps unless its treatment changes it.
    margin = float(of_model.gamma(2.0))
    answer = truth if of_model.random() < 0.7 else options[of_model.integers(len(options))]
    parsed: str | None = answer if of_model.random() > 0.08 else None
    prediction = f" {answer}." if parsed else "I cannot  tell"
    harm = HARM[cell.method] * (1 - kept / N_VISUAL + (cell.method == FLOOR)) / (0.5 + margin / 2)
    if of_cell.random() < harm:
        answer = options[of_cell.integers(len(options))]
        parsed = answer if of_cell.random() > 0.2 else None
        prediction = answer if parsed else ["Hm?", "I cannot  tell"][of_cell.integers(2)]
    elif parsed is None and cell.method != FULL:
        prediction = "\ti cannot  TELL\n"  # the same answer, but for case and outer space
    score = _score(kind, parsed, truth)
    failed = of_cell.random() < 0.03
    return {
        **_identity(cell, image, question),
        "task_type": {"yesno": "yesno", "letters": "mcq", "open": "open"}[kind],
        "keep_ratio": None if cell.keep == OWN_COUNT else kept / N_VISUAL,
        "n_visual_full": N_VISUAL,
        "n_visual_kept": kept,
        "n_kept_per_layer": [kept] * N_LAYERS,
        "mean_visual_tokens": float(kept),
        "n_text_tokens": N_TEXT + question,
        "kept_indices": sorted(of_cell.choice(N_VISUAL, kept, replace=False).tolist()),
        **({"status": "error", "error": "RuntimeError: out of memory"} if failed else {"status": "ok"}),
        "target": truth,
        **({} if failed else _answer(kind, prediction, parsed, score, margin, of_cell)),
        **({} if failed else _divergence(cell, harm, of_cell)),
        "spectra": None if failed else _spectra(cell, kept, of_model, of_cell),
    }


def _identity(cell: Cell, image: int, question: int) -> Row:
    sample = f"{cell.dataset}-{image:03d}-{question}"
    return {
        "schema_version": store.SCHEMA_VERSION,
        "run_id": "synthetic",
        "model": cell.model,
        "model_revision": "r1",
        "dataset": cell.dataset,
        "split": "test",
        "dataset_revision": "d1",
        "method": cell.method,
        "keep": cell.keep,
        "seed": cell.seed,
        "weights": "none",
        "sample_id": sample,
        "group_id": f"{cell.dataset}-{image:03d}-0",  # the first question of an image stands for its group
        "figure_id": f"{cell.dataset}-figure-{image // 2}",
        "cluster_id": f"image-{image:03d}",
        "image_hash": f"{image:016x}",
        "doc_hash": f"doc of {sample}",
        "prompt_hash": f"prompt of {sample}",
        "category": ["count", "position", "exists"][question % 3],
        "l2_category": ["near", "far"][image % 2],
        "prompt_style": "lmms_eval",
        "template_hash": f"template of {cell.model}",
        "image_mode": "original",
        "positions": "reindexed",
    }


def _answer(kind: str, prediction: str, parsed: str | None, score: float, margin: float, rng: Any) -> Row:
    options = ANSWERS[kind] if kind != "open" else []
    tastes = rng.dirichlet(np.ones(len(options))) if options else np.empty(0)
    mass = float(rng.uniform(0.5, 1)) if options else None
    top1_is_option = bool(rng.random() < 0.9) if options else None
    margin = abs(margin + float(rng.normal(0, 0.1)))
    best = options.index(parsed) if parsed in options else int(tastes.argmax()) if options else 0
    return {
        "scoring_mode": {"yesno": "yesno", "letters": "letters", "open": "generate"}[kind],
        "scorer": kind,
        "scorer_version": 1,
        "prediction": prediction,
        "prediction_parsed": parsed,
        "parse_status": "ok" if parsed else "unparsed",
        "score": score,
        "correct": score >= 0.5,
        "option_labels": options,
        "option_logprobs": _log_shares(_ahead(tastes, best, margin), mass).tolist() if mass else [],
        "answer_mass": mass,
        "top1_is_option": top1_is_option,
        "margin": margin,
        "entropy": float(rng.gamma(1.0)),
        "t_vision_ms": float(rng.gamma(4.0)),
        "t_select_ms": float(rng.gamma(1.0)),
        "t_prefill_ms": float(rng.gamma(9.0)),
        "t_decode_ms": float(rng.gamma(3.0)) if kind == "open" else None,
        "dtype": "float32",
        "device": "cpu",
        "batch_size": 4,
        **_tokens(prediction, margin),
        **(_generated(prediction, margin) if kind == "open" else {}),
    }


def _ahead(tastes: Any, best: int, margin: float) -> Any:
    """Logits of which the one at `best` is `margin` ahead of all others, which follow their tastes."""
    others = np.delete(np.arange(len(tastes)), best)
    logits = np.zeros(len(tastes))
    logits[others] = 4 * (tastes[others] - tastes[others].max()) - margin
    return logits


def _log_shares(logits: Any, mass: float = 1.0) -> Any:
    return logits - np.logaddexp.reduce(logits) + np.log(mass)


def _tokens(prediction: str, margin: float) -> Row:
    """All of a small vocabulary, the first word of the answer first."""
    first = zlib.crc32(prediction.split()[0].lower().encode())
    rng = np.random.default_rng(first)
    logits = _ahead(rng.random(VOCABULARY), first % VOCABULARY, margin)
    order = np.argsort(-logits, kind="stable")
    return {"topk_token_ids": order.tolist(), "topk_logprobs": _log_shares(logits)[order].tolist()}


def _look_up(rows: Sequence[Row], full: Sequence[Row]) -> None:
    """What a cell says of the full model's tokens, in the order in which that prefers them."""
    for row, reference in zip(rows, full, strict=True):
        if row["status"] == "ok" and reference["status"] == "ok":
            logprobs = dict(zip(row["topk_token_ids"], row["topk_logprobs"], strict=True))
            row["ref_topk_logprobs"] = [logprobs[token] for token in reference["topk_token_ids"]]


def _generated(prediction: str, margin: float) -> Row:
    """A token for each word, and one that ends the text, unless it is cut."""
    ids = [zlib.crc32(word.lower().encode()) % 1000 for word in prediction.split()]
    cut = len(ids) > 2
    logprobs = [-0.1 * place - 1 / (2 + margin) for place in range(len(ids) + (not cut))]
    return {
        "gen_token_ids": ids,
        "gen_logprobs": logprobs,
        "n_generated": len(ids),
        "finish_reason": "length" if cut else "stop",
    }


def _score(kind: str, parsed: str | None, truth: str) -> float:
    """Soft for open questions, as VQAv2 is: sharing a letter with the truth is worth something."""
    if parsed is None:
        return 0.0
    if kind != "open" or parsed == truth:
        return float(parsed == truth)
    return 0.6 if set(parsed) >= {"t", "e"} and "t" in truth else 0.3


def _divergence(cell: Cell, harm: float, rng: Any) -> Row:
    if cell.method == FULL:
        return {name: 0.0 for name in ("kl_full_to_this", "kl_this_to_full", "js", "tv")}
    size = harm + 1e-7
    kl = float(size * rng.gamma(1.0))
    return {"kl_full_to_this": kl, "kl_this_to_full": kl * 1.1, "js": kl / 8, "tv": float(np.sqrt(kl / 8))}


def _spectra(cell: Cell, kept: int, of_model: Any, of_cell: Any) -> list[Row]:
    spectra = []
    for site in ("projector", "llm_1_2"):
        for tokens in ("visual", "text"):
            for centred in (False, True):
                base = np.exp(of_model.normal(-3.0, 0.3, len(store.STATISTICS)))
                shift = 0.0 if cell.method == FULL else HARM[cell.method] * (1 - kept / N_VISUAL)
                values = base * np.exp(shift * (1 + of_cell.normal(0, 0.2, len(base))))
                spectrum = dict(zip(store.STATISTICS, values.tolist(), strict=True))
                if of_cell.random() < 0.1:
                    spectrum |= {"ipr_u": None, "ipr_l1": float("nan"), "entropy": 0.0}
                n = kept if tokens == "visual" else 12
                spectra.append({"site": site, "tokens": tokens, "centred": centred, "n": n, **spectrum})
    return spectra


STEADINESS = {"fastv": 0.8}  # share of the kept set that survives bfloat16, where it is not all of it
VARIANTS = {"bfloat16": 1.0, "float16": 0.4, "noise": 0.05}  # how much of that unsteadiness each shows


def make_stability(sweep: Sweep, *, images: int = 4) -> list[Row]:
    """Rows of `lofi stability` for every reduced cell: one method is unsteady, and one image of it fails."""
    rows = []
    for cell in sorted(cell for cell in sweep if cell.method not in (FULL, FLOOR)):
        for variant, exposure in VARIANTS.items():
            for image in range(images):
                rng = np.random.default_rng([*str(cell).encode(), *variant.encode(), image])
                kept = sweep[cell][0]["n_visual_kept"]
                lost = (1 - STEADINESS.get(cell.method, 1.0)) * exposure * rng.uniform(0.5, 1.5)
                row = {
                    **{axis: getattr(cell, axis) for axis in ("model", "dataset", "method", "keep", "seed")},
                    **{"variant": variant, "image_hash": f"{image:016x}", "n_visual_full": N_VISUAL},
                }
                if lost and variant == "noise" and image == 0:
                    rows.append({**row, "status": "error", "error": "ValueError: scores are not finite"})
                    continue
                same = kept - round(lost * kept)
                rows.append({**row, "n_kept": kept, "n_same": same, "n_kept_variant": kept, "status": "ok"})
    return rows


def write_stability(rows: Sequence[Row], results: Path) -> list[Path]:
    """Write the rows as `lofi stability` does, a file for each model and dataset; returns the files."""
    files = []
    for model, dataset in sorted({(row["model"], row["dataset"]) for row in rows}):
        here = [row for row in rows if (row["model"], row["dataset"]) == (model, dataset)]
        path = results / stability_path(model, dataset)
        table = pa.Table.from_pylist(here, schema=store.STABILITY)
        store.write_table(table, path, {"key": f"stability of {model}, {dataset}", "numerics": 1})
        files.append(path)
    return files
