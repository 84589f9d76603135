"""Ranks, in a made sweep and on arrays worked by hand."""

from collections import defaultdict

import numpy as np
import pyarrow.parquet as pq
import pytest

from lofi.stats.aggregate import aggregate
from lofi.stats.ranking import kendall_w, order_changes
from tests.unit.synthetic import make_sweep, write_sweep


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    sweep = make_sweep(models=("tiny-a",), keeps=("0.5000", "0.2500"), own=("prumerge",))
    aggregate(write_sweep(sweep, results), results / "tables", results / "audit.duckdb")
    names = ("ranks", "methods", "cells")
    return {name: pq.read_table(results / "tables" / f"{name}.parquet").to_pylist() for name in names}


def test_order_changes_only_where_one_passes_another():
    observed = np.array([0.5, 0.9, 0.5])  # the first and the third are equal: their order cannot change
    drawn = np.array([[0.4, 0.9, 0.5], [0.5, 0.5, 0.5], [0.6, 0.5, 0.4], [0.1, 0.8, 0.9]])
    assert order_changes(observed, drawn) == 0.5


def test_kendall_w_worked_by_hand():
    assert kendall_w(np.array([[1, 2, 3], [1, 2, 3], [1, 2, 3]], dtype=float)) == 1
    assert kendall_w(np.array([[1, 2, 3], [3, 2, 1]], dtype=float)) == 0
    # Rank sums 4, 5, 9: S = 14, W = 12 * 14 / (9 * 24)
    assert kendall_w(np.array([[1, 2, 3], [2, 1, 3], [1, 2, 3]], dtype=float)) == pytest.approx(12 * 14 / 216)
    assert kendall_w(np.array([[1.5, 1.5, 3], [1.5, 1.5, 3]])) == pytest.approx(1)  # ties shared by all
    assert np.isnan(kendall_w(np.full((2, 3), 2.0)))


def test_ranks_follow_agreement(tables):
    agreement = {(row["dataset"], row["method"], row["keep"]): row["agreement"] for row in tables["methods"]}
    groups = defaultdict(list)
    for row in tables["ranks"]:
        groups[row["dataset"], row["keep"]].append(row)
    assert len(groups) == 3 * 2
    for (dataset, keep), rows in groups.items():
        assert [row["method"] for row in rows] == ["fastv", "lofi", "random"]  # neither full, floor nor own counts
        for row in rows:
            assert row["agreement"] == pytest.approx(agreement[dataset, row["method"], keep])
            better = sum(other["agreement"] > row["agreement"] for other in rows)
            equal = sum(other["agreement"] == row["agreement"] for other in rows)
            assert row["rank"] == better + (equal + 1) / 2
            assert row["rank_low"] <= row["rank"] <= row["rank_high"]
            assert row["n_methods"] == 3
        assert sum(row["best"] for row in rows) == pytest.approx(1)
        assert len({row["order_changes"] for row in rows}) == 1


def test_datasets_are_compared_within_a_keep(tables):
    for keep in ("0.5000", "0.2500"):
        rows = [row for row in tables["ranks"] if row["keep"] == keep]
        ranks = {(row["dataset"], row["method"]): row["rank"] for row in rows}
        datasets, methods = ({key[at] for key in ranks} for at in (0, 1))
        table = np.array([[ranks[dataset, method] for method in sorted(methods)] for dataset in sorted(datasets)])
        for row in rows:
            assert row["n_datasets"] == 3
            assert row["kendall_w"] == pytest.approx(kendall_w(table))
            assert row["mean_rank"] == pytest.approx(table.mean(axis=0)[sorted(methods).index(row["method"])])


def test_methods_pool_their_seeds(tables):
    cells = defaultdict(list)
    for row in tables["cells"]:
        cells[row["dataset"], row["method"], row["keep"]].append(row)
    assert len(cells) == len(tables["methods"])
    for row in tables["methods"]:
        seeds = cells[row["dataset"], row["method"], row["keep"]]
        assert row["n_seeds"] == len(seeds)
        assert row["n"] == sum(seed["n"] for seed in seeds)
        for rate in ("agreement", "accuracy", "neg_flip"):
            assert row[rate] == pytest.approx(sum(seed[rate] * seed["n"] for seed in seeds) / row["n"])
            assert row[f"{rate}_low"] <= row[rate] <= row[f"{rate}_high"]
            if len(seeds) == 1:  # the same draws of images
                ends = [f"{rate}_low", f"{rate}_high"]
                assert [row[end] for end in ends] == [seeds[0][end] for end in ends]
