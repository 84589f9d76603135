"""Intervals of measures against a slow bootstrap on the same draws: sample by sample, one draw after the other."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from lofi.cell import FLOOR, FULL, KEEP_ALL, Cell
from lofi.stats import measure_bounds
from lofi.stats.aggregate import aggregate
from lofi.stats.resample import DRAWS, acceleration, bca_interval, dataset_seed, weights
from tests.unit.synthetic import make_sweep, write_sweep

KEY = ("model", "dataset", "method", "keep", "seed")
BOUNDED = {
    ("answer", "divergence_rate"),
    ("tokens", "kl"),
    ("options", "kl"),
    ("options", "answer_margin"),
    ("options", "nll"),
    ("options", "brier"),
    ("options", "ece"),
}


@pytest.fixture(scope="module")
def sweep():
    methods = {"random": (0,), "lofi": (0,)}
    return make_sweep(
        models=("tiny-a",), datasets=("scenes-letters",), methods=methods, keeps=("0.2500", "16"), images=9
    )


@pytest.fixture(scope="module")
def found(sweep, tmp_path_factory):
    return measured(sweep, tmp_path_factory.mktemp("results"))


def measured(sweep, results):
    aggregate(write_sweep(sweep, results, shards=1), results / "tables", results / "audit.duckdb")
    rows = pq.read_table(results / "tables" / "measures.parquet").to_pylist()
    return {(Cell(*(row[name] for name in KEY)), row["channel"], row["measure"]): row for row in rows}


def moved_by_image(sweep, cell, of_pair):
    """Sums of what moved, and counts, by image."""
    full = {row["sample_id"]: row for row in sweep[Cell(cell.model, cell.dataset, FULL, KEEP_ALL)]}
    images = sorted({row["cluster_id"] for row in full.values()})
    sums = np.zeros((len(images), 2))
    for row in sweep[cell]:
        other = full[row["sample_id"]]
        if row["status"] == other["status"] == "ok":
            sums[images.index(row["cluster_id"])] += of_pair(row, other), 1
    return sums


def slow_figures(sums):
    counts = weights(len(sums), DRAWS, dataset_seed("scenes-letters"))
    drawn = np.array([(count[:, None] * sums).sum(axis=0) for count in counts])
    left_out = np.array([np.delete(sums, at, axis=0).sum(axis=0) for at in range(len(sums))])
    return [part[..., 0] / part[..., 1] for part in (sums.sum(axis=0), drawn, left_out)]


def bounds(observed, drawn, left_out):
    low, high = bca_interval(drawn[:, None], np.array([observed]), acceleration(left_out[:, None]))
    return low[0], high[0]


@pytest.mark.parametrize(
    ("channel", "measure", "of_pair"),
    [
        ("tokens", "kl", lambda this, other: this["kl_full_to_this"]),
        ("answer", "divergence_rate", lambda this, other: this["prediction_parsed"] != other["prediction_parsed"]),
    ],
)
def test_means_are_paired_with_the_floor(sweep, found, channel, measure, of_pair):
    for rows in sweep.values():  # unparsed texts, which are compared otherwise, are none of this test
        assert all(row["status"] == "error" or row["prediction"] for row in rows)
    floor = slow_figures(moved_by_image(sweep, Cell("tiny-a", "scenes-letters", FLOOR, KEEP_ALL), of_pair))
    for cell in sweep:
        if cell.method in (FULL, FLOOR):
            continue
        figures = slow_figures(moved_by_image(sweep, cell, of_pair))
        row = found[cell, channel, measure]
        if measure == "kl":
            assert (row["low"], row["high"]) == pytest.approx(bounds(*figures))
            excess = [one - noise for one, noise in zip(figures, floor, strict=True)]
            assert (row["excess_low"], row["excess_high"]) == pytest.approx(bounds(*excess))
        assert row["low"] <= row["value"] <= row["high"]
        assert row["excess_low"] <= row["excess"] <= row["excess_high"]


def test_which_measures_have_intervals(sweep, found):
    for (cell, channel, measure), row in found.items():
        if (channel, measure) not in BOUNDED:
            assert row["low"] is row["high"] is row["excess_low"] is row["excess_high"] is None
        elif cell.method not in (FULL, FLOOR):
            assert row["low"] < row["high"]
            assert row["excess_low"] < row["excess_high"]
        elif cell.method == FULL and measure != "divergence_rate":
            assert row["low"] is row["high"] is None  # nothing moves


def test_calibration_error_in_fixed_bins():
    """(clusters, one cell, bins of this run, bins of the full run, n) against the sum over bins, draw by draw."""
    rng = np.random.default_rng(0)
    sums = np.concatenate([rng.normal(size=(12, 1, 30)), rng.integers(1, 4, (12, 1, 1))], axis=2)
    observed, drawn, left_out = measure_bounds._figures(sums, "some")

    def slow(part):
        return (np.abs(part[:15]).sum() - np.abs(part[15:30]).sum()) / part[30]

    assert observed[0] == pytest.approx(slow(sums.sum(axis=0)[0]))
    counts = weights(12, DRAWS, dataset_seed("some"))
    assert drawn[:5, 0] == pytest.approx([slow(count @ sums[:, 0]) for count in counts[:5]])
    assert left_out[3, 0] == pytest.approx(slow(np.delete(sums[:, 0], 3, axis=0).sum(axis=0)))


def test_few_numbers_at_once_change_nothing(sweep, found, tmp_path, monkeypatch):
    monkeypatch.setattr(measure_bounds, "NUMBERS_AT_ONCE", 1)
    again = measured(sweep, tmp_path)
    for place, row in found.items():
        for name in ("low", "high", "excess_low", "excess_high"):
            assert again[place][name] == (row[name] if row[name] is None else pytest.approx(row[name], rel=1e-12))


def test_sums_add_up_to_the_same_in_any_order():
    rng = np.random.default_rng(0)
    sums = rng.normal(size=(1000, 3, 2))
    sums[:, 0] *= 1e-9
    sums[:, 2, 0] *= 1e6
    rounded = measure_bounds._addable(sums)
    assert rounded == pytest.approx(sums, rel=0, abs=1e-12 * np.abs(sums).max())
    orders = [rng.permutation(1000) for _ in range(20)]
    drawn = rng.multinomial(1000, np.full(1000, 1e-3))[:, None, None] * rounded
    totals = [sum(drawn[at] for at in order) for order in orders]
    assert all((total == totals[0]).all() for total in totals)
    assert (measure_bounds._addable(np.zeros((4, 2, 1))) == 0).all()


def test_without_a_floor_or_a_second_image_there_are_no_bounds(sweep, tmp_path):
    without = {cell: rows for cell, rows in sweep.items() if cell.method != FLOOR}
    for row in measured(without, tmp_path / "no floor").values():
        assert row["excess_low"] is row["excess_high"] is None
    single = make_sweep(
        models=("tiny-a",), datasets=("scenes-letters",), methods={"lofi": (0,)}, keeps=("16",), images=1
    )
    for (cell, _, _), row in measured(single, tmp_path / "one image").items():
        if cell.method != FULL:
            assert row["low"] is row["high"] is row["excess_low"] is None
