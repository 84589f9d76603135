"""The tables about single samples, from sample files to rows, against plain loops over the samples."""

from collections import defaultdict

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import mannwhitneyu, spearmanr

from lofi.cell import FLOOR, FULL, KEEP_ALL, Cell
from lofi.stats import shifts
from lofi.stats.aggregate import aggregate
from tests.unit.synthetic import make_sweep, write_sweep

NAMES = ("sample_shifts", "beyond_margin")


def tables_of(sweep, results, shards=2):
    files = write_sweep(sweep, results, shards=shards)
    aggregate(files, results / "tables", results / "audit.duckdb", threads=1)
    return [pq.read_table(results / "tables" / f"{name}.parquet").to_pylist() for name in NAMES]


@pytest.fixture(scope="module")
def sweep():
    """Larger cells than other tests need, so that enough answers change."""
    methods = {"random": (0, 1), "lofi": (0,)}
    return make_sweep(models=("tiny-a",), datasets=("scenes-letters",), methods=methods, keeps=("16",), images=70)


@pytest.fixture(scope="module")
def tables(sweep, tmp_path_factory):
    return tables_of(sweep, tmp_path_factory.mktemp("results"))


def statistic(row, site, tokens, centred, name):
    (found,) = [s for s in row["spectra"] if (s["site"], s["tokens"], s["centred"]) == (site, tokens, centred)]
    return found[name] if found[name] is not None and found[name] > 0 else np.nan


def by_hand(sweep, cell, of):
    """Slow and plain: (changed, KL, dlog, margin) of every sample of a cell that ran in both."""
    full = {row["sample_id"]: row for row in sweep[Cell(cell.model, cell.dataset, FULL, KEEP_ALL)]}
    found = []
    for row in sweep[cell]:
        other = full[row["sample_id"]]
        if row["status"] != "ok" or other["status"] != "ok":
            continue
        same = row["prediction_parsed"] == other["prediction_parsed"] and (
            row["prediction_parsed"] is not None
            or row["prediction"].strip().lower() == other["prediction"].strip().lower()
        )
        dlog = np.log(statistic(row, *of)) - np.log(statistic(other, *of))
        if np.isfinite(dlog):
            found.append((not same, row["kl_full_to_this"], dlog, other["margin"]))
    return [np.array(column) for column in zip(*found, strict=True)]


def treated(sweep):
    return [cell for cell in sweep if cell.method not in (FULL, FLOOR)]


@pytest.mark.parametrize("of", [("projector", "visual", True, "ipr_u"), ("llm_1_2", "text", False, "k90")])
def test_means_over_cells_equal_a_slow_computation(sweep, tables, of):
    (row,) = [r for r in tables[0] if (r["site"], r["tokens"], r["centred"], r["statistic"]) == of]
    cells = [by_hand(sweep, cell, of) for cell in treated(sweep)]
    assert len(cells) == 3
    rho = [spearmanr(dlog, kl).statistic for _, kl, dlog, _ in cells]
    told = [(changed, np.abs(dlog)) for changed, _, dlog, _ in cells if changed.sum() >= 10]
    areas = [mannwhitneyu(size[c], size[~c]).statistic / (c.sum() * (~c).sum()) for c, size in told]
    assert row["n_cells"] == 3
    assert row["n_samples"] == sum(len(changed) for changed, *_ in cells)
    assert row["n_cells_told"] == len(told) >= 2
    assert row["n_changed"] == sum(c.sum() for c, _ in told)
    assert row["spearman"] == pytest.approx(np.mean(rho), abs=1e-6)
    assert row["auroc"] == pytest.approx(np.mean(areas), abs=1e-6)
    assert row["spearman_low"] is row["auroc_high"] is None  # one (model, dataset) has nothing to resample
    assert 0 < row["p"] <= row["p_adjusted"] <= 1


def test_one_primary_first_declared(tables):
    rows, _ = tables
    assert [(r["site"], r["tokens"], r["centred"], r["statistic"]) for r in rows if r["primary"]] == [
        ("projector", "visual", True, "ipr_u")
    ]
    assert len(rows) == 2 * 2 * 2 * 13


def test_beyond_margin_has_all_levels_and_their_means(sweep, tables):
    _, rows = tables
    by_scope = defaultdict(list)
    for row in rows:
        by_scope[row["scope"]].append(row)
    assert {scope: len(found) for scope, found in by_scope.items()} == {"all": 1, "model_dataset": 1, "cell": 3}
    known = [row for row in by_scope["cell"] if row["gain"] is not None]
    for scope in ("all", "model_dataset"):
        (row,) = by_scope[scope]
        assert row["n_cells"] == len(known) >= 2
        assert row["n"] == sum(each["n"] for each in known)
        assert row["gain"] == pytest.approx(np.mean([each["gain"] for each in known]))
        assert row["gain"] == pytest.approx(row["auroc_both"] - row["auroc_margin"])
        assert row["gain_low"] < row["gain"] < row["gain_high"]
    for row, cell in zip(by_scope["cell"], sorted(treated(sweep)), strict=True):
        assert (row["method"], row["keep"], row["seed"]) == (cell.method, cell.keep, cell.seed)
        changed, *_ = by_hand(sweep, cell, ("projector", "visual", True, "ipr_u"))
        assert (row["n"], row["n_changed"]) == (len(changed), changed.sum())


def test_at_most_so_many_samples_of_a_cell_are_looked_at_whatever_the_shards(sweep, tmp_path, monkeypatch):
    monkeypatch.setattr(shifts, "MOST", 100)
    one, other = (tables_of(sweep, tmp_path / str(shards), shards) for shards in (1, 3))
    assert one == other
    assert all(row["n"] <= 100 for row in one[1] if row["scope"] == "cell")
    assert all(250 < row["n_samples"] <= 300 for row in one[0] if row["statistic"] == "ipr")


def test_without_spectra_or_changes_there_is_no_number(tmp_path):
    small = make_sweep(models=("tiny-a",), datasets=("scenes-open",), keeps=("0.5000",), images=4)
    shifted, beyond = tables_of(small, tmp_path / "few")
    assert {row["p"] for row in shifted} == {row["auroc"] for row in shifted} == {None}
    assert {row["gain"] for row in beyond} == {None}
    assert beyond[0]["note"] == "too few answers changed in every cell"
    assert all("must change" in row["note"] for row in beyond if row["scope"] == "cell")
    for rows in small.values():
        for row in rows:
            row["spectra"] = None
    assert tables_of(small, tmp_path / "none") == [[], []]
