"""A cell's agreement told without labels and without comparing answers, on data and models not yet seen."""

from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from lofi.stats.correlate import BOOTSTRAPS, MIN_BLOCKS
from lofi.stats.resample import Floats, Integers, draws_of_blocks, draws_within, percentile_interval
from lofi.stats.ridge import Counts, held_out

SEED = 0
SPLITS = ("dataset", "model", "method")  # whose values are held out, one at a time
MIN_GROUPS = 3  # two to learn from, one of them held out in turn to choose the penalty, and one to predict
MIN_CELLS = 20
KEEP = "keep"
MEAN = "mean"
# Each set of features, and those that it is compared with. Spectra may only tell methods apart, whose harm is known
# from other data: so they are also compared with the name of the method, and tried on methods that were never seen.
FEATURES = {
    MEAN: (KEEP,),
    KEEP: (KEEP,),
    "keep + margins": (KEEP,),
    "keep + spectra": (KEEP,),
    "keep + margins + spectra": (KEEP, "keep + margins"),
    "keep + method": (KEEP,),
    "keep + method + spectra": (KEEP, "keep + method"),
}
WORDS = {KEEP: "the keep", "margins": "the margins", "spectra": "the spectra", "method": "the name of the method"}
ERRORS = ("error", "low", "high", "difference", "difference_low", "difference_high")
FORECAST = pa.schema(
    [
        *((name, pa.string()) for name in ("split", "features", "baseline")),
        *((name, pa.int64()) for name in ("n_cells", "n_groups")),
        *((name, pa.float64()) for name in ERRORS),
        *((name, pa.string()) for name in ("resampled", "verdict", "note")),
    ]
)
CELLS = pa.schema(
    [
        *((name, pa.string()) for name in ("split", "features", "model", "dataset", "method", "keep")),
        ("n", pa.int64()),
        ("agreement", pa.float64()),
        ("predicted", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Points:
    """One row per (model, dataset, method, keep); a number that is missing is NaN."""

    names: dict[str, list[str]]  # model, dataset, method, keep
    n: Floats  # (rows,) answers, seeds together
    n_agree: Floats  # (rows,)
    keeps: Floats  # (rows, 4)
    margins: Floats  # (rows, 10)
    shifts: Floats  # (rows, twice the variables)
    blocks: Integers  # (rows,) the (model, dataset)

    def counts(self, features: str) -> Counts:
        """What one set of features is learned from. The keep is free, so that what is added can be left out."""
        methods = np.equal.outer(np.array(self.names["method"]), np.unique(self.names["method"])).astype(np.float64)
        named = np.concatenate([methods, methods * self.keeps[:, 1:2]], axis=1)
        parts = {"margins": self.margins, "spectra": self.shifts, "method": named}
        added = [part for name, part in parts.items() if name in features]
        return Counts(
            self.n_agree,
            self.n,
            free=self.keeps[:, :0] if features == MEAN else self.keeps,
            penalised=np.concatenate([self.keeps[:, :0], *added], axis=1),
        )


def read(con: duckdb.DuckDBPyConnection) -> Points:
    """The tables `forecast_points` and `forecast_shifts`."""
    columns = "model, dataset, method, keep, n, n_agree, ln_kept, ln_layers, model_dataset, margins"
    rows = con.execute(f"SELECT {columns} FROM forecast_points ORDER BY point").fetchall()
    found = dict(zip(columns.split(", "), zip(*rows, strict=True) if rows else [()] * 10, strict=True))
    kept, layers = (np.array(found[name], dtype=np.float64) for name in ("ln_kept", "ln_layers"))
    margins = np.array([row or [np.nan] * 5 for row in found["margins"]], dtype=np.float64).reshape(-1, 5)
    shifts = con.execute("SELECT point, variable, change FROM forecast_shifts").fetchnumpy()
    table = np.full((len(rows), int(shifts["variable"].max(initial=-1)) + 1), np.nan)
    table[shifts["point"], shifts["variable"]] = np.ma.filled(shifts["change"], np.nan)
    return Points(
        names={name: list(found[name]) for name in ("model", "dataset", "method", "keep")},
        n=np.array(found["n"], dtype=np.float64),
        n_agree=np.array(found["n_agree"], dtype=np.float64),
        keeps=np.column_stack([kept, layers, kept**2, layers**2]),
        margins=np.concatenate([margins, margins * layers[:, None]], axis=1),
        shifts=np.concatenate([table, np.abs(table)], axis=1),  # either direction may cost answers
        blocks=np.array(found["model_dataset"], dtype=np.int64),
    )


def forecast(points: Points) -> tuple[pa.Table, pa.Table]:
    """The tables `forecast`, one row per split, set of features and baseline, and `forecast_cells`."""
    rows, cells = [], []
    for split in SPLITS:
        _, groups = np.unique(np.array(points.names[split], dtype=str), return_inverse=True)
        predicted: dict[str, Floats] = {}
        notes = {name: _why_not(points, name, split, len(np.unique(groups))) for name in FEATURES}
        for name in FEATURES:
            if notes[name] is None:
                predicted[name] = held_out(points.counts(name), groups)
                cells.append(_cells_table(points, split, name, predicted[name]))
        size = {"split": split, "n_cells": len(groups), "n_groups": len(np.unique(groups))}
        for name, baseline in ((name, baseline) for name, baselines in FEATURES.items() for baseline in baselines):
            row = {**size, "features": name, "baseline": baseline, "note": notes[name]}
            rows.append(row | (_errors(points, groups, predicted, name, baseline) if notes[name] is None else {}))
    return pa.Table.from_pylist(rows, schema=FORECAST), pa.concat_tables([CELLS.empty_table(), *cells])


def _why_not(points: Points, features: str, split: str, n_groups: int) -> str | None:
    """Say why nothing can be forecast from these features, if so."""
    if n_groups < MIN_GROUPS:
        found = f"{n_groups} {split}{'' if n_groups == 1 else 's'}"
        return f"{found} with pruned cells: at least {MIN_GROUPS} are needed to learn from some and predict another"
    if len(points.n) < MIN_CELLS:
        return f"{len(points.n)} cells: at least {MIN_CELLS} are needed"
    if split in features:
        return f"the {split} that is held out is not known"
    if "margins" in features and not np.isfinite(points.margins).any():
        return "the full model's margins are not stored"
    if "spectra" in features and not np.isfinite(points.shifts).any():
        return "no spectra are stored"
    return None


def _errors(
    points: Points, groups: Integers, predicted: dict[str, Floats], name: str, baseline: str
) -> dict[str, object]:
    """The mean absolute error of one set of features, and how much larger it is than that of its baseline.

    Intervals resample what is held out where there are at least five of it, else (model, dataset) pairs, whose cells
    share samples, where there are five of these, else the cells inside each of them.
    """
    observed = points.n_agree / points.n
    error, other = (np.abs(predicted[features] - observed) for features in (name, baseline))
    columns = np.column_stack([error, error - other])
    unit, weights = _draws(groups, points.blocks)
    low, high = percentile_interval(weights @ columns / weights.sum(axis=1, keepdims=True))
    numbers = np.column_stack([columns.mean(axis=0), low, high]).tolist()
    found = dict(zip(ERRORS[:3], numbers[0], strict=True)) | {"resampled": unit}
    if name == baseline:
        return found
    return found | dict(zip(ERRORS[3:], numbers[1], strict=True)) | {"verdict": _verdict(name, baseline, *numbers[1])}


def _draws(groups: Integers, blocks: Integers) -> tuple[str, Floats]:
    """What is resampled, and how often each cell is drawn: (draws, rows)."""
    rng = np.random.default_rng(SEED)
    for unit, membership in (("held out", groups), ("model_dataset", blocks)):
        if len(np.unique(membership)) >= MIN_BLOCKS:
            return unit, draws_of_blocks(membership, BOOTSTRAPS, rng)
    return "cell", draws_within(blocks, BOOTSTRAPS, rng)


def _verdict(name: str, baseline: str, difference: float, low: float, high: float) -> str:
    """In plain words: what the features that the baseline lacks are good for."""
    new = [WORDS[part] for part in name.split(" + ") if part not in (MEAN, *baseline.split(" + "))]
    change = f"leaving out {WORDS[KEEP]}" if name == MEAN else f"adding {' and '.join(new)}"
    if low <= 0 <= high:
        return f"{change} makes no difference that these cells can show"
    return f"{change} {'lowers' if difference < 0 else 'raises'} the error"


def _cells_table(points: Points, split: str, features: str, predicted: Floats) -> pa.Table:
    n = len(predicted)
    columns = {
        "split": [split] * n,
        "features": [features] * n,
        **points.names,
        "n": points.n.astype(np.int64),
        "agreement": points.n_agree / points.n,
        "predicted": predicted,
    }
    return pa.table(columns, schema=CELLS)
