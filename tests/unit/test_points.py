"""The scopes of the correlation, from cells and spectra to the table, where the truth is known."""

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from lofi.stats import points
from lofi.stats.sql import run_sql

METHODS = ("random", "lofi", "fastv", "grid_1d", "divprune")
KEEPS = (0.5, 0.25, 0.125, 0.0625)


def simulated(*, models=8, datasets=6, effect=0.0, seeds=3, seed=0):
    """Cells and spectra: agreement and dIPR fall and rise with ln keep, each with noise of its own.

    effect: how much agreement a method loses for a unit of its own part of the shift.
    """
    rng = np.random.default_rng(seed)
    cells, spectra = [], []
    for model in range(models):
        for dataset in range(datasets):
            base = rng.normal(0, 0.037)
            for method in METHODS:
                for keep in KEEPS:
                    for number in range(seeds if method == "random" else 1):
                        own = rng.normal(0, 0.05)
                        harm = -np.log2(keep) / 4
                        key = {"model": f"m{model}", "dataset": f"d{dataset}", "method": method}
                        key |= {"keep": f"{keep:.4f}", "seed": number}
                        agreement = 0.95 + base - 0.3 * harm + rng.normal(0, 0.025) - effect * own
                        tokens = {"kept_tokens": 576 * keep, "layer_mean_tokens": 576 * keep, "full_tokens": 576.0}
                        cells.append({**key, "weights": "none", "agreement": agreement, **tokens})
                        of = {"site": "projector", "tokens": "visual", "centred": True}
                        shift = 0.5 * harm + own
                        noise = rng.normal()
                        spectra.append({**key, **of, "statistic": "ipr_u", "delta": shift / 9, "dlog": shift})
                        spectra.append({**key, **of, "statistic": "k90", "delta": noise, "dlog": None})
    return cells, spectra


def correlations(cells, spectra, random=("random",)):
    """The table `correlations` as rows, by scope, statistic and delta."""
    with duckdb.connect() as con:
        con.execute("SET VARIABLE random_methods = ?::VARCHAR[]", [list(random)])
        run_sql(con, "macros")
        for name, rows in (("cells", cells), ("spectra", spectra)):
            con.register(f"given_{name}", pa.Table.from_pylist(rows))
            con.execute(f"CREATE TABLE {name} AS FROM given_{name}")
        run_sql(con, "points")
        con.register("tests", points.tests(con))
        run_sql(con, "correlations")
        rows = con.table("correlations").to_arrow_table().to_pylist()
    return {(row["scope"], row["statistic"], row["delta"]): row for row in rows}


@pytest.fixture(scope="module")
def null():
    return correlations(*simulated())


def primary(rows, scope):
    return rows[scope, "ipr_u", "dlog"]


def test_without_an_effect_of_methods_only_scopes_across_keeps_correlate(null):
    r = {scope: primary(null, scope)["pearson"] for scope in points.SCOPES}
    assert r["pooled"] == pytest.approx(-0.83, abs=0.04)
    assert r["within_model_dataset"] == pytest.approx(-0.90, abs=0.03)
    assert r["random_only"] == pytest.approx(-0.90, abs=0.03)  # no method chose a token here
    for scope in ("within_model_dataset_keep", "partial", "excess_over_random"):
        assert r[scope] == pytest.approx(0, abs=0.08)
        assert primary(null, scope)["p"] > 0.05
        assert primary(null, scope)["low"] < 0 < primary(null, scope)["high"]
    assert primary(null, "within_model_dataset_keep")["p_methods"] > 0.05
    assert primary(null, "pooled")["p_methods"] is None


def test_every_scope_counts_its_cells(null):
    counted = {scope: (row["n_cells"], row["n_groups"]) for scope in points.SCOPES if (row := primary(null, scope))}
    assert counted == {
        "pooled": (960, 1),
        "within_model_dataset": (960, 48),
        "within_model_dataset_keep": (960, 192),
        "partial": (960, 48),
        "random_only": (48 * 4 * 3, 48),
        "excess_over_random": (768, 48),
    }


def test_one_primary_in_each_scope_and_the_rest_adjusted_among_themselves(null):
    for scope in points.SCOPES:
        rows = [row for (name, _, _), row in null.items() if name == scope]
        assert [(row["statistic"], row["delta"]) for row in rows if row["primary"]] == [("ipr_u", "dlog")]
        assert primary(null, scope)["p_adjusted"] == primary(null, scope)["p"]
        assert all(row["p"] is None or row["p_adjusted"] >= row["p"] for row in rows)
        assert null[scope, "k90", "dlog"]["note"] == "no cells"


def test_an_effect_of_methods_is_found_where_methods_are_compared():
    found = correlations(*simulated(models=2, datasets=3, effect=0.4))
    for scope in ("within_model_dataset_keep", "partial", "excess_over_random"):
        assert primary(found, scope)["pearson"] < -0.3
        assert primary(found, scope)["p"] < 0.01
    assert abs(found["within_model_dataset_keep", "k90", "d"]["pearson"]) < 0.3


def test_excess_is_over_the_mean_of_the_random_seeds():
    cells, spectra = simulated(models=1, datasets=1)
    shifted = {"random": 5.0}
    for row in cells:
        row["agreement"] += shifted.get(row["method"], 0)
    moved = correlations(cells, spectra)
    plain = correlations(*simulated(models=1, datasets=1))
    # one constant more in every baseline moves no correlation of the excess
    assert primary(moved, "excess_over_random")["pearson"] == pytest.approx(
        primary(plain, "excess_over_random")["pearson"]
    )
    assert primary(moved, "pooled")["pearson"] != pytest.approx(primary(plain, "pooled")["pearson"])


def test_without_random_cells_the_scopes_that_need_them_say_so():
    found = correlations(*simulated(models=1, datasets=2), random=())
    for scope in ("random_only", "excess_over_random"):
        assert primary(found, scope)["note"] == "no cells"
        assert primary(found, scope)["n_cells"] == 0
        assert primary(found, scope)["pearson"] is None
    assert primary(found, "pooled")["n_cells"] == 40


def test_quantised_weights_and_references_are_no_points():
    cells, spectra = simulated(models=1, datasets=1)
    for row in cells:
        if row["method"] == "lofi":
            row["weights"] = "int8"
    renamed = {"fastv": "floor", "grid_1d": "full"}
    for row in [*cells, *spectra]:
        row["method"] = renamed.get(row["method"], row["method"])
    assert primary(correlations(cells, spectra), "pooled")["n_cells"] == 8
