"""The forecast of agreement where the truth is known: what predicts it, what does not, and that nothing leaks."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from lofi.stats import forecast
from lofi.stats.aggregate import TABLES, aggregate
from lofi.stats.forecast import FEATURES, Points
from lofi.stats.ridge import PENALTIES, Counts, held_out, predictions
from tests.unit.synthetic import make_sweep, write_sweep

KEEPS = (0.5, 0.25, 0.125, 0.0625)


def made(*, models=4, datasets=5, methods=5, variables=12, by_spectra=0.0, by_margins=0.0, by_method=0.0, seed=0):
    """Points whose logit of agreement follows the keep and, so far as asked for, one shift, the margins, the method.

    The shift is an own one of each cell, and so nothing of it can be told from the method.
    """
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*map(np.arange, (models, datasets, methods, len(KEEPS))), indexing="ij")
    model, dataset, method, keep = (axis.ravel() for axis in axes)
    layers = np.log(KEEPS)[keep]
    blocks = model * datasets + dataset
    margins = rng.normal(1, 0.5, (models * datasets, 1))[blocks] + np.linspace(-0.3, 0.3, 5)
    shifts = rng.normal(size=(len(keep), variables))
    logit = 3 + 1.0 * layers - by_spectra * shifts[:, 0] - by_margins * margins[:, 2] * layers
    logit += by_method * rng.normal(size=methods)[method] + rng.normal(0, 0.2, len(keep))
    n = np.full(len(keep), 400.0)
    names = {"model": model, "dataset": dataset, "method": method, "keep": keep}
    return Points(
        names={name: [f"{name}-{value}" for value in values] for name, values in names.items()},
        n=n,
        n_agree=rng.binomial(400, 1 / (1 + np.exp(-logit))).astype(float),
        keeps=np.column_stack([layers, layers, layers**2, layers**2]),
        margins=np.concatenate([margins, margins * layers[:, None]], axis=1),
        shifts=np.concatenate([shifts, np.abs(shifts)], axis=1),
        blocks=blocks,
    )


def by_features(points):
    """The rows of `forecast` by split, features and baseline, and those of `forecast_cells`."""
    table, cells = forecast.forecast(points)
    return {(row["split"], row["features"], row["baseline"]): row for row in table.to_pylist()}, cells.to_pylist()


@pytest.fixture(scope="module")
def planted():
    return by_features(made(by_spectra=0.8, by_margins=0.5))


@pytest.mark.parametrize("split", ["dataset", "model", "method"])
def test_a_planted_relation_is_recovered_out_of_sample(planted, split):
    rows, _ = planted
    error = {name: rows[split, name, baselines[0]]["error"] for name, baselines in FEATURES.items()}
    assert error["mean"] > error["keep"] > error["keep + margins"] > error["keep + margins + spectra"]
    assert error["keep + margins + spectra"] < 0.5 * error["keep"]
    row = rows[split, "keep + spectra", "keep"]
    assert row["difference_high"] < 0
    assert row["difference"] == pytest.approx(row["error"] - error["keep"])
    assert row["low"] < row["error"] < row["high"]
    assert row["verdict"] == "adding the spectra lowers the error"
    assert rows[split, "keep + margins + spectra", "keep + margins"]["verdict"] == row["verdict"]


def test_the_baseline_is_compared_with_nothing(planted):
    row = planted[0]["dataset", "keep", "keep"]
    assert row["error"] > 0
    assert row["difference"] is row["difference_low"] is row["difference_high"] is row["verdict"] is None


def test_every_set_and_split_has_a_row_and_every_cell_a_prediction(planted):
    rows, cells = planted
    assert len(rows) == 3 * 9
    assert {(row["n_cells"], row["n_groups"]) for key, row in rows.items() if key[0] == "model"} == {(400, 4)}
    assert len(cells) == 400 * (7 + 7 + 5)
    for split, features in {(cell["split"], cell["features"]) for cell in cells}:
        here = [cell for cell in cells if (cell["split"], cell["features"]) == (split, features)]
        error = np.mean([abs(cell["agreement"] - cell["predicted"]) for cell in here])
        assert rows[split, features, FEATURES[features][0]]["error"] == pytest.approx(error)


def test_no_relation_is_rarely_taken_for_one():
    """Spectra and margins that say nothing: the penalty leaves them out, and few intervals lie below 0."""
    lowered = []
    for seed in range(20):
        rows, _ = by_features(made(models=3, datasets=3, methods=4, seed=seed))
        lowered += [
            row["difference_high"] < 0
            for (split, features, _), row in rows.items()
            if "spectra" in features and split != "method"
        ]
    assert len(lowered) == 20 * 2 * 5
    assert np.mean(lowered) <= 0.05


def test_spectra_that_only_tell_methods_apart_add_nothing_to_their_names():
    points = made(by_method=1.0)
    method = np.unique(points.names["method"], return_inverse=True)[1]
    fingerprint = np.eye(5)[method] + np.random.default_rng(0).normal(0, 0.05, (len(method), 5))
    rows, _ = by_features(replace(points, shifts=fingerprint))
    assert rows["dataset", "keep + spectra", "keep"]["difference_high"] < 0
    assert not rows["dataset", "keep + method + spectra", "keep + method"]["difference_high"] < -0.005
    assert not rows["method", "keep + spectra", "keep"]["difference_high"] < 0


@pytest.mark.parametrize("split", ["dataset", "model", "method"])
def test_the_held_out_group_does_not_leak_into_its_prediction(split):
    points = made(models=3, datasets=3, methods=3, by_spectra=0.5)
    names = np.array(points.names[split])
    held = names == names[0]
    other = replace(points, n_agree=np.where(held, points.n - points.n_agree, points.n_agree))
    groups = np.unique(names, return_inverse=True)[1]
    for features in ("keep", "keep + margins + spectra"):
        before, after = (held_out(each.counts(features), groups) for each in (points, other))
        assert (before[held] == after[held]).all()
        assert (before[~held] != after[~held]).all()


def test_what_cannot_be_forecast_says_why():
    rows, cells = by_features(made(models=2, datasets=3))
    note = "2 models with pruned cells: at least 3 are needed to learn from some and predict another"
    assert rows["model", "keep", "keep"]["note"] == note
    assert rows["model", "keep", "keep"]["error"] is None
    assert rows["method", "keep + method", "keep"]["note"] == "the method that is held out is not known"
    assert {cell["split"] for cell in cells} == {"dataset", "method"}
    points = made(models=3, datasets=3)
    bare = replace(points, shifts=points.shifts[:, :0], margins=np.full_like(points.margins, np.nan))
    rows, _ = by_features(bare)
    assert rows["model", "keep + spectra", "keep"]["note"] == "no spectra are stored"
    assert rows["model", "keep + margins", "keep"]["note"] == "the full model's margins are not stored"
    assert rows["model", "keep", "keep"]["error"] > 0
    few = by_features(made(models=3, datasets=3, methods=1))[0]["model", "keep", "keep"]
    assert few["error"] > 0
    assert by_features(made(models=3, datasets=1, methods=1))[0]["model", "keep", "keep"]["note"].startswith("12 cells")


def test_nothing_to_forecast_is_no_number():
    points = made(models=1, datasets=1, methods=1)
    empty = Points(
        {name: [] for name in points.names},
        *(values[:0] for values in (points.n, points.n_agree, points.keeps, points.margins, points.shifts)),
        blocks=points.blocks[:0],
    )
    rows, cells = by_features(empty)
    assert {row["error"] for row in rows.values()} == {None}
    assert cells == []


def counts(seed=0, rows=60, columns=4):
    rng = np.random.default_rng(seed)
    free, penalised = rng.normal(size=(rows, 2)), rng.normal(size=(rows, columns))
    p = 1 / (1 + np.exp(-(free[:, 0] + penalised @ np.linspace(0, 0.5, columns))))
    return Counts(rng.binomial(200, p).astype(float), np.full(rows, 200.0), free, penalised)


def test_predictions_equal_the_normal_equations():
    known, new = counts(0), counts(1)
    share = (known.n_agree + 0.5) / (known.n + 1)
    weight = known.n * share * (1 - share)
    weight = weight / weight.sum()

    def design(part):
        columns = []
        for one, of_known in ((part.free, known.free), (part.penalised, known.penalised)):
            mean = weight @ of_known
            columns.append((one - mean) / np.sqrt(weight @ (of_known - mean) ** 2))
        return np.column_stack([np.ones(len(part.n)), *columns])

    a = design(known)
    for penalty in (0.01, 1.0, 100.0):
        ridge = np.diag([0, 0, 0, *[penalty] * 4])
        slopes = np.linalg.solve(a.T @ (weight[:, None] * a) + ridge, a.T @ (weight * np.log(share / (1 - share))))
        expected = 1 / (1 + np.exp(-design(new) @ slopes))
        assert predictions(known, new, np.array([penalty]))[0] == pytest.approx(expected)


def test_the_largest_penalty_leaves_the_free_columns_alone():
    known, new = counts(0), counts(1)
    without = replace(known, penalised=known.penalised[:, :0]), replace(new, penalised=new.penalised[:, :0])
    largest = predictions(known, new, PENALTIES[:1])[0]
    assert (largest == predictions(*without, PENALTIES[:1])[0]).all()


def test_constant_equal_and_missing_columns_are_harmless():
    known, new = counts(0), counts(1)
    odd = [np.column_stack([each.penalised, np.full(60, 7.0), each.penalised[:, 0]]) for each in (known, new)]
    odd[1][0, 0] = odd[0][3, 1] = np.nan
    free = [np.column_stack([each.free, each.free[:, 0]]) for each in (known, new)]
    found = predictions(
        replace(known, free=free[0], penalised=odd[0]), replace(new, free=free[1], penalised=odd[1]), PENALTIES
    )
    assert np.isfinite(found).all()
    assert found.shape == (len(PENALTIES), 60)
    assert ((found > 0) & (found < 1)).all()


def test_a_sweep_without_pruned_cells_has_rows_that_say_so(tmp_path):
    files = write_sweep(make_sweep(models=("tiny-a",), methods={}, images=3), tmp_path)
    aggregate(files, tmp_path / "tables", tmp_path / "audit.duckdb", threads=1)
    tables = {name: pq.read_table(tmp_path / "tables" / f"{name}.parquet").to_pylist() for name in TABLES}
    assert {row["note"] for row in tables["forecast"] if row["split"] == "dataset"} == {
        "0 datasets with pruned cells: at least 3 are needed to learn from some and predict another"
    }
    for name in ("correlations", "sample_shifts", "beyond_margin", "forecast_cells"):
        assert tables[name] == [], name


def test_the_table_holds_out_every_cell_of_a_sweep(tmp_path):
    files = write_sweep(make_sweep(models=("tiny-a", "tiny-b"), images=4, seed=3), tmp_path)
    aggregate(files, tmp_path / "tables", tmp_path / "audit.duckdb", threads=1)
    rows = pq.read_table(tmp_path / "tables" / "forecast.parquet").to_pylist()
    cells = pq.read_table(tmp_path / "tables" / "forecast_cells.parquet").to_pylist()
    assert {(row["n_cells"], row["n_groups"]) for row in rows if row["split"] == "dataset"} == {(54, 3)}
    assert all(0 < row["error"] < 1 for row in rows if row["split"] == "dataset")
    assert {row["error"] for row in rows if row["split"] == "model"} == {None}  # two models are too few
    agreement = {
        (row["model"], row["dataset"], row["method"], row["keep"]): row["agreement"]
        for row in pq.read_table(tmp_path / "tables" / "cells.parquet").to_pylist()
    }
    for cell in cells:
        assert 0 < cell["predicted"] < 1
        if cell["method"] != "random":  # which has two seeds
            place = tuple(cell[name] for name in ("model", "dataset", "method", "keep"))
            assert cell["agreement"] == pytest.approx(agreement[place])
