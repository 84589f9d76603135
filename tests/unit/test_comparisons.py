"""Paired comparisons of methods against a slow computation on the same rows."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lofi.cell import FLOOR, FULL, KEEP_ALL, Cell
from lofi.stats.aggregate import aggregate
from tests.unit.synthetic import make_sweep, write_sweep


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, list[dict]]:
    results: Path = tmp_path_factory.mktemp("results")
    sweep = make_sweep()
    aggregate(write_sweep(sweep, results), results / "tables", results / "audit.duckdb")
    return sweep, pq.read_table(results / "tables" / "comparisons.parquet").to_pylist()


def agreement(sweep: dict, wanted: dict, method: str) -> float:
    """Share of agreeing samples of a method at a keep, its seeds pooled."""
    same = []
    for cell, rows in sweep.items():
        if (cell.model, cell.dataset, cell.keep, cell.method) != (
            wanted["model"],
            wanted["dataset"],
            wanted["keep"],
            method,
        ):
            continue
        full = {row["sample_id"]: row for row in sweep[Cell(cell.model, cell.dataset, FULL, KEEP_ALL)]}
        for row in rows:
            other = full[row["sample_id"]]
            if row["status"] != "ok" or other["status"] != "ok":
                continue
            both = (row["prediction_parsed"], other["prediction_parsed"])
            texts = [each["prediction"].strip().lower() for each in (row, other)]
            same.append(texts[0] == texts[1] if both == (None, None) else both[0] == both[1])
    return float(np.mean(same))


def test_every_ordered_pair_is_compared_once(found: tuple[dict, list[dict]]) -> None:
    sweep, rows = found
    blocks: dict[tuple, set[str]] = {}
    for cell in sweep:
        if cell.method not in (FULL, FLOOR):
            blocks.setdefault((cell.model, cell.dataset, cell.keep), set()).add(cell.method)
    assert len(rows) == sum(len(methods) * (len(methods) - 1) for methods in blocks.values())


def test_differences_equal_a_slow_computation(found: tuple[dict, list[dict]]) -> None:
    sweep, rows = found
    for row in rows:
        expected = agreement(sweep, row, row["method"]) - agreement(sweep, row, row["versus"])
        assert row["difference"] == pytest.approx(expected, abs=1e-12)
        assert row["low"] <= row["high"]
        assert 0 < row["p"] <= 1


def test_the_reverse_comparison_is_the_mirror_image(found: tuple[dict, list[dict]]) -> None:
    _, rows = found
    by_pair = {tuple(row[name] for name in ("model", "dataset", "keep", "method", "versus")): row for row in rows}
    for (model, dataset, keep, method, versus), row in by_pair.items():
        mirror = by_pair[model, dataset, keep, versus, method]
        assert (row["difference"], row["low"]) == pytest.approx((-mirror["difference"], -mirror["high"]))
        assert row["p"] == mirror["p"]
