"""What the report reads: the tables of the aggregate stage, in one order, averaged over seeds and over pairs."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from lofi.cell import AS_LOADED, FLOOR, FULL, KEEP_ALL, OWN_COUNT
from lofi.errors import UserError
from lofi.report.side import Side
from lofi.report.words import method_label
from lofi.tables import Row, Tables

AXES = ("model", "dataset", "method", "keep", "seed")
REQUIRED = ("cells", "correlations", "flips", "runs")
BASELINES = (FULL, FLOOR)
# Columns of the cells table that the page shows. There are a thousand more, for every spectrum.
SHOWN = (
    *("model", "dataset", "method", "weights", "keep", "seed", "keep_ratio", "n", "n_errors"),
    *("accuracy", "accuracy_low", "accuracy_high", "accuracy_full", "relative_accuracy"),
    *("agreement", "agreement_low", "agreement_high", "divergence_excess"),
    *("neg_flip", "neg_flip_low", "neg_flip_high", "pos_flip", "wrong_to_other", "right_to_other"),
    *("n_neg_flip", "n_pos_flip", "n_wrong_to_other", "n_right_to_other"),
    *("kl", "unparsed", "kept_tokens", "kept_tokens_min", "kept_tokens_max", "full_tokens", "layer_mean_tokens"),
)


@dataclass(frozen=True)
class Making:
    """How the report itself is made."""

    command: str = ""
    generated: str | None = None  # a date, or None for a page that depends on nothing but its input
    expected: int = 0  # sample files that the sweep asks for; 0 where nobody said
    manifest: str = ""  # the file beside the page with all of this; empty where there is none


@dataclass(frozen=True)
class Audit:
    """The tables, and the one order of models, datasets, methods and keeps that every figure and table follows."""

    cells: list[Row]
    correlations: list[Row]
    comparisons: list[Row]
    runs: list[Row]
    models: tuple[str, ...]
    datasets: tuple[str, ...]
    methods: tuple[str, ...]  # without full and floor
    random: str | None  # the method that drops tokens at random: the baseline of every other
    stability: list[Row] = field(default_factory=list)  # empty where self-agreement was not measured
    twins: dict[str, str] = field(default_factory=dict)  # on quantised weights -> the same method on those as loaded
    source: Tables | None = None
    config: Mapping[str, Any] = field(default_factory=dict)  # of the sweep
    making: Making = Making()
    side: Side | None = None  # None where nothing is written beside the page

    def select(self, sql: str) -> list[Row]:
        """Rows of any table of the sweep. What a page prints from them, its `How` quotes."""
        if self.source is None:
            raise UserError("the tables are not open; run `lofi aggregate`, then `lofi report`")
        return self.source.rows(sql)

    @cached_property
    def keeps(self) -> tuple[str, ...]:
        """Every keep below all tokens, mildest first. Own counts are not one keep: no methods meet there."""
        shares: dict[str, list[float]] = {}
        for cell in self.cells:
            if cell["method"] not in BASELINES and cell["keep"] not in (KEEP_ALL, OWN_COUNT):
                shares.setdefault(cell["keep"], []).append(token_share(cell) or 0.0)
        return tuple(sorted(shares, key=lambda keep: (-sum(shares[keep]) / len(shares[keep]), keep)))

    @cached_property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Every (model, dataset) of the sweep."""
        found = {(cell["model"], cell["dataset"]) for cell in self.cells}
        return tuple((m, d) for m in self.models for d in self.datasets if (m, d) in found)

    @cached_property
    def points(self) -> list[Row]:
        """One row per (model, dataset, method, keep): the mean over its seeds, counts added up."""
        rows = [mean_row(group, AXES[:-1]) for group in groups(self.cells, AXES[:-1])]
        methods = (*BASELINES, *self.methods)
        keeps = (KEEP_ALL, *self.keeps, OWN_COUNT)
        return sorted(
            rows,
            key=lambda row: (
                self.datasets.index(row["dataset"]),
                self.models.index(row["model"]),
                methods.index(row["method"]),
                keeps.index(row["keep"]),
            ),
        )

    @cached_property
    def overall(self) -> dict[tuple[str, str], Row]:
        """(method, keep) -> the mean over all (model, dataset) pairs; only where no pair is missing."""
        means = {}
        for group in groups(self.points, ("method", "keep")):
            if len(group) == len(self.pairs):
                means[group[0]["method"], group[0]["keep"]] = over_datasets(group, ("method", "keep"))
        return means

    def full(self, model: str, dataset: str) -> Row | None:
        """The reference of one pair."""
        wanted = (model, dataset, FULL)
        return next((p for p in self.points if (p["model"], p["dataset"], p["method"]) == wanted), None)

    def at(self, keep: str) -> list[Row]:
        """The overall means of all methods at one keep, in method order."""
        return [self.overall[m, keep] for m in self.methods if (m, keep) in self.overall]

    def as_loaded(self, keep: str) -> list[Row]:
        """Those of `at` that run on the weights as loaded: what dropping tokens does, and nothing else."""
        return [row for row in self.at(keep) if row["method"] not in self.quantised]

    @cached_property
    def quantised(self) -> dict[str, str]:
        """Methods whose decoder runs on quantised weights, with these weights."""
        weights = {cell["method"]: cell.get("weights", AS_LOADED) for cell in self.cells}
        return {method: weights[method] for method in self.methods if weights[method] != AS_LOADED}

    def label(self, method: str) -> str:
        """A method as figures name it."""
        return method_label(method, self.quantised.get(method, AS_LOADED))

    def primary(self, scope: str) -> Row | None:
        """The pre-declared correlation in one scope."""
        return next((c for c in self.correlations if c["primary"] and c["scope"] == scope), None)


def token_share(row: Row) -> float | None:
    """The share of visual tokens that the LLM works on, averaged over its layers."""
    if row.get("layer_mean_tokens") is not None and row.get("full_tokens"):
        return float(row["layer_mean_tokens"] / row["full_tokens"])
    return row.get("keep_ratio")


def groups(rows: Iterable[Row], by: Sequence[str]) -> list[list[Row]]:
    """Rows that agree in all columns `by`, in order of first appearance."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[column] for column in by), []).append(row)
    return list(found.values())


def mean_row(rows: Sequence[Row], by: Sequence[str]) -> Row:
    """The group's `by` columns, the mean of every other number, the sum of every count (`n`, `n_...`).

    The mean of interval bounds is a bound that is never too narrow, however much the cells share. Of `..._min` and
    `..._max` columns it is the least and the greatest.
    """
    merged: Row = {column: rows[0][column] for column in by} | {"cells": sum(row.get("cells", 1) for row in rows)}
    for column, example in rows[0].items():
        if column in merged or column in AXES:
            continue
        values = [row.get(column) for row in rows]
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        if column == "n" or column.startswith("n_"):
            merged[column] = sum(numbers)
        elif numbers and column.endswith(("_min", "_max")):
            merged[column] = min(numbers) if column.endswith("_min") else max(numbers)
        elif numbers:  # one cell without the number leaves the mean without it: a partial mean would mislead
            merged[column] = sum(numbers) / len(numbers) if len(numbers) == len(rows) else None
        else:
            merged[column] = example if len({str(v) for v in values}) == 1 else None
    return merged


def baseline(configured: Any, methods: Sequence[str]) -> str | None:
    """The first method whose reducer is `random`, whatever its name is, on the weights as loaded."""
    entries = configured if isinstance(configured, Mapping) else {}
    for name in methods:
        settings = entries.get(name) or {}
        if settings.get("reducer", name) == "random" and settings.get("weights", AS_LOADED) == AS_LOADED:
            return name
    return None


def twins_of(configured: Any) -> dict[str, str]:
    """For each method on quantised weights, the one that differs from it in nothing else."""
    entries = configured if isinstance(configured, Mapping) else {}
    plain = {name: {"reducer": name} | dict(entry or {}) for name, entry in entries.items()}
    weights = {name: entry.pop("weights", AS_LOADED) for name, entry in plain.items()}
    return {
        name: other
        for name, entry in plain.items()
        for other, same in plain.items()
        if weights[name] != AS_LOADED and weights[other] == AS_LOADED and entry == same
    }


def read(tables: Path, sweep: Mapping[str, Any]) -> Audit:
    """All tables but the long ones (flips stay on disk: there may be millions)."""
    if lacking := [name for name in REQUIRED if not (tables / f"{name}.parquet").is_file()]:
        raise UserError(f"{tables} has no {', '.join(f'{n}.parquet' for n in lacking)}; run `lofi aggregate` first")
    correlations = read_rows(tables / "correlations.parquet")
    cells = read_rows(tables / "cells.parquet", set(SHOWN))
    if not any(cell["method"] == FULL for cell in cells):
        raise UserError(f"{tables / 'cells.parquet'} has no cell of method {FULL!r}; run `lofi aggregate` again")
    for cell in cells:
        parts = (cell.get("wrong_to_other"), cell.get("right_to_other"))
        cell["exchanged"] = None if None in parts else sum(parts)
        numbers = (cell.get("n_wrong_to_other"), cell.get("n_right_to_other"))
        cell["n_exchanged"] = None if None in numbers else sum(numbers)
    methods = ordered(sweep.get("methods"), cells, "method", lambda name: name not in BASELINES)
    optional = {name: tables / f"{name}.parquet" for name in ("comparisons", "stability")}
    found = {name: read_rows(path) if path.is_file() else [] for name, path in optional.items()}
    return Audit(
        cells=sorted(cells, key=lambda cell: tuple(cell[axis] for axis in AXES)),
        correlations=correlations,
        comparisons=[row for row in found["comparisons"] if row["basis"] == "agreement"],
        runs=sorted(read_rows(tables / "runs.parquet"), key=lambda run: str(run["path"])),
        models=ordered(sweep.get("models"), cells, "model"),
        datasets=ordered(sweep.get("datasets"), cells, "dataset"),
        methods=methods,
        random=baseline(sweep.get("methods"), methods),
        stability=found["stability"],
        twins=twins_of(sweep.get("methods")),
        source=Tables(tables),
        config=sweep,
    )


def read_rows(path: Path, columns: Collection[str] | None = None) -> list[Row]:
    """A table as rows, or as many of its `columns` as it has; NaN is None: neither is a number to show."""
    names = pq.read_schema(path).names
    rows: list[Row] = pq.read_table(path, columns=[n for n in names if columns is None or n in columns]).to_pylist()
    for row in rows:
        for column, value in row.items():
            if isinstance(value, float) and not math.isfinite(value):
                row[column] = None
    return rows


def over_datasets(rows: Sequence[Row], by: Sequence[str]) -> Row:
    """`mean_row`, but with intervals that shrink with the number of datasets, because their images differ.

    Inside one dataset cells share images, so bounds are averaged; over datasets half-widths add up in quadrature.
    """
    parts = [mean_row(group, (*by, "dataset")) for group in groups(rows, ("dataset",))]
    merged = mean_row(parts, by)
    for column in [name.removesuffix("_low") for name in merged if name.endswith("_low")]:
        for end, sign in (("low", -1), ("high", 1)):
            if merged[f"{column}_{end}"] is not None and merged[column] is not None:
                squares = sum((part[f"{column}_{end}"] - part[column]) ** 2 for part in parts)
                merged[f"{column}_{end}"] = merged[column] + sign * math.sqrt(squares) / len(parts)
    return merged


def ordered(
    configured: Any, cells: Iterable[Row], column: str, wanted: Callable[[str], bool] = lambda _: True
) -> tuple[str, ...]:
    """The names in the cells, in the order of the config; what the config does not name comes last, sorted."""
    names = [str(name) for name in configured or ()]
    found = {str(cell[column]) for cell in cells}
    known = [name for name in dict.fromkeys(names) if name in found]
    return tuple(name for name in (*known, *sorted(found - set(known))) if wanted(name))
