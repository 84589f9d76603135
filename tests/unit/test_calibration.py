"""Calibration against plain computations and against simulation."""

from collections import defaultdict

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lofi.cell import FULL, KEEP_ALL, Cell
from lofi.stats import calibration
from lofi.stats.aggregate import aggregate
from lofi.stats.sql import run_sql
from tests.unit.synthetic import make_sweep, write_sweep

GRID = {name: [name] for name in ("model", "dataset", "method", "weights", "keep")}


def measured(confidence, correct, *, order=None):
    """The measures of one cell whose full run has the same answers; order: in which its samples are named."""
    n = len(confidence)
    columns = {"confidence": confidence, "correct": correct, "brier": (confidence - correct) ** 2}
    full = {f"full_{name}": values for name, values in columns.items()}
    where = {"cell_id": [1] * n, "channel": ["text"] * n, "cluster": [0] * n}
    made = pa.table({**columns, **full, **where, "sample": np.arange(n) if order is None else order})
    with duckdb.connect() as con:
        con.register("confidences", made)
        con.register("grid", pa.table({**GRID, "cell_id": [1], "seed": [0]}))
        binned, measures = calibration.tables(calibration.read(con))
        con.register("calibration_bins", binned)
        run_sql(con, "calibration")
        rows = measures.to_pylist()
        assert all(row["value"] == row["full_value"] and row["n"] == n for row in rows)
        bins = con.execute("SELECT binning, bin, n, confidence, accuracy FROM calibration").fetchall()
    return {row["measure"]: row["value"] for row in rows}, bins


def slow_ece(confidence, correct):
    """By equal mass: the first bins have one more where it does not come out even."""
    order = np.argsort(confidence, kind="stable")
    gaps = [abs(confidence[part].sum() - correct[part].sum()) for part in np.array_split(order, min(15, len(order)))]
    return sum(gaps) / len(confidence)


def slow_aurc(confidence, correct, orders=200):
    """The mean over random orders of equally sure answers."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(orders):
        order = np.lexsort([rng.random(len(confidence)), -confidence])
        errors = np.cumsum(~correct[order])
        found.append((errors / np.arange(1, len(order) + 1)).mean())
    return np.mean(found)


@pytest.mark.parametrize("n", [4, 15, 100, 1003])
def test_against_plain_computations(n):
    rng = np.random.default_rng(n)
    confidence = rng.beta(5, 2, n)
    correct = rng.random(n) < confidence**2
    values, bins = measured(confidence, correct)
    assert values["ece"] == pytest.approx(slow_ece(confidence, correct))
    assert values["aurc"] == pytest.approx(slow_aurc(confidence, correct, orders=1))
    assert values["brier"] == pytest.approx(((confidence - correct) ** 2).mean())
    assert values["confidence"] == pytest.approx(confidence.mean())
    assert values["ece_corrected"] == pytest.approx(values["ece"] - values["ece_null"])
    width = np.minimum(np.floor(confidence * 15), 14)
    gaps = [abs((confidence[width == at] - correct[width == at]).sum()) for at in range(15)]
    assert values["ece_equal_width"] == pytest.approx(sum(gaps) / n)
    for binning in ("equal_mass", "equal_width"):
        assert sum(count for kind, _, count, _, _ in bins if kind == binning) == n
    assert sum(kind == "equal_mass" for kind, *_ in bins) == min(n, 15)


def test_equally_sure_answers_count_in_no_order():
    rng = np.random.default_rng(0)
    confidence = rng.integers(1, 5, 120) / 5
    correct = rng.random(120) < confidence
    values, _ = measured(confidence, correct)
    shuffled, _ = measured(confidence, correct, order=rng.permutation(120))
    assert values["aurc"] == shuffled["aurc"]
    assert values["aurc"] == pytest.approx(slow_aurc(confidence, correct), abs=0.01)


def test_aurc_knows_the_best_and_the_worst_order():
    confidence = np.linspace(0.1, 0.9, 100)
    best, _ = measured(confidence, confidence > 0.5)
    worst, _ = measured(confidence, confidence < 0.5)
    assert best["aurc"] < 0.2 < 0.8 < worst["aurc"]
    right, _ = measured(confidence, np.ones(100, dtype=bool))
    assert right["aurc"] == 0


@pytest.mark.parametrize(("n", "sure"), [(150, 2.0), (600, 8.0)])
def test_the_null_is_what_true_confidences_give(n, sure):
    rng = np.random.default_rng(0)
    confidence = rng.beta(sure, 1.5, n)
    drawn = [slow_ece(confidence, rng.random(n) < confidence) for _ in range(400)]
    values, _ = measured(confidence, rng.random(n) < confidence)
    assert values["ece_null"] == pytest.approx(np.mean(drawn), rel=0.06)
    assert abs(values["ece_corrected"]) < 4 * np.std(drawn)


def test_a_confidence_that_is_too_high_shows():
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0.5, 1, 3000)
    values, _ = measured(confidence, rng.random(3000) < confidence - 0.2)
    assert values["ece_corrected"] == pytest.approx(0.2, abs=0.04)


@pytest.fixture(scope="module")
def sweep():
    return make_sweep(models=("tiny-a",), methods={"lofi": (0,)}, keeps=("16",), images=10)


def test_options_and_texts_are_never_mixed(sweep, tmp_path):
    for cell, rows in sweep.items():  # one dataset of both kinds
        if cell.dataset == "scenes-letters":
            for row in rows[::3]:
                generated = {"scoring_mode": "generate", "gen_token_ids": [1], "gen_logprobs": [-0.25, -0.5]}
                row.update(generated if row["status"] == "ok" else {})
    aggregate(write_sweep(sweep, tmp_path, shards=1), tmp_path / "tables", tmp_path / "audit.duckdb")
    rows = pq.read_table(tmp_path / "tables" / "measures.parquet").to_pylist()
    found = defaultdict(dict)
    for row in rows:
        if row["topic"] == "calibration" and row["dataset"] == "scenes-letters" and row["method"] == FULL:
            found[row["channel"]][row["measure"]] = row
    full = [row for row in sweep[Cell("tiny-a", "scenes-letters", FULL, KEEP_ALL)] if row["status"] == "ok"]
    texts = [row for row in full if row["scoring_mode"] == "generate"]
    options = [row for row in full if row["scoring_mode"] == "letters"]
    assert found["text"]["ece"]["n"] == len(texts)
    assert found["options"]["ece"]["n"] == len(options)
    assert found["text"]["confidence"]["value"] == pytest.approx(np.exp(-0.75))
    shares = [np.exp(row["option_logprobs"]) / np.exp(row["option_logprobs"]).sum() for row in options]
    assert found["options"]["confidence"]["value"] == pytest.approx(
        np.mean([share.max() for share in shares]), rel=1e-5
    )
    truth = [np.array([label == row["target"] for label in row["option_labels"]]) for row in options]
    brier = [((share - right) ** 2).sum() for share, right in zip(shares, truth, strict=True)]
    assert found["options"]["brier"]["value"] == pytest.approx(np.mean(brier), rel=1e-5)
