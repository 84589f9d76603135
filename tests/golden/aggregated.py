"""Golden lists of answers as samples of made-up datasets, one for each list, and the figures that the SQL gives."""

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from lofi.cell import FULL, KEEP_ALL
from lofi.scoring.answers import Question
from lofi.scoring.registry import get_scorer
from lofi.stats.metrics import declare
from lofi.stats.sql import run_sql
from tests.unit.synthetic import samples_table

NO_INTERVALS = pa.schema(
    [("cell_id", pa.int32()), ("figure_id", pa.int32()), ("low", pa.float64()), ("high", pa.float64())]
)
Row = dict[str, Any]
Figures = dict[tuple[str, str | None], float | None]  # by metric and category


def answer(scorer: str, sample_id: str, prediction: str, question: Question, **counted: Any) -> Row:
    """A sample with its grade by a rule; `counted` are its group, figure and categories."""
    found = get_scorer(scorer).rule(prediction, question)
    return {
        "sample_id": sample_id,
        "cluster_id": sample_id,
        "prediction": prediction,
        "prediction_parsed": found.parsed,
        "score": found.score,
        "correct": found.correct,
        **counted,
        "target": question.target,
    }


def figures(datasets: Mapping[str, Sequence[Row]], families: Sequence[str]) -> dict[str, Figures]:
    """The figures of each dataset against the right answers.

    Each is also held against a full model that always gives the right answer: agreement with it has to be the same.
    """
    samples = [sample for name, rows in datasets.items() for row in rows for sample in _samples(name, row)]
    with duckdb.connect() as con:
        con.register("samples", samples_table(samples))
        for name in ("macros", "answers", "outcomes"):
            run_sql(con, name)
        declare(con, dict.fromkeys(datasets, families))
        run_sql(con, "ratios")
        con.register("figure_intervals", NO_INTERVALS.empty_table())
        run_sql(con, "metrics")
        rows = con.execute("SELECT dataset, metric, category, basis, value FROM metrics WHERE method <> 'full'")
        found: dict[str, dict[str, Figures]] = {"correct": {}, "agreement": {}}
        for dataset, metric, category, basis, value in rows.fetchall():
            found[basis].setdefault(dataset, {})[metric, category] = value
    for dataset, values in found["correct"].items():
        for figure, value in values.items():
            if figure[0] != "yes_share":  # no label takes part in it
                assert found["agreement"][dataset][figure] == near(value), (dataset, figure)
    return found["correct"]


def near(value: float | None) -> Any:
    return None if value is None else pytest.approx(value, abs=1e-9, rel=0)


def _samples(dataset: str, row: Row) -> list[Row]:
    """A sample of the reduced cell, and of a full cell that is always right."""
    target = row["target"]
    this = {name: value for name, value in row.items() if name != "target"}
    this |= {"model": "m", "dataset": dataset, "method": "reduced", "keep": "0.5000", "seed": 0, "status": "ok"}
    right = {"prediction": target, "prediction_parsed": target, "score": 1.0, "correct": True}
    return [this, {**this, **right, "method": FULL, "keep": KEEP_ALL}]
