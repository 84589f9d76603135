"""Methods that set their own count (keep `auto`): in every table and plot by what they kept, in no comparison at a keep."""

import re

import pyarrow.parquet as pq
import pytest

from lofi.cell import FULL, OWN_COUNT
from lofi.report import curves, sentences, tables
from lofi.report.audit import read, token_share
from lofi.report.cautions import cautions
from tests.unit.audits import audit_of, cell
from tests.unit.report_setup import make_results

OWN = ("prumerge", "dart")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("results"), own=OWN)


@pytest.fixture(scope="module")
def audit(made):
    return read(made.root / "tables", made.sweep)


def table(made, name):
    return pq.read_table(made.root / "tables" / f"{name}.parquet").to_pylist()


def test_cells_hold_the_spread_of_their_counts(made):
    for row in table(made, "cells"):
        spread = row["kept_tokens_min"], row["kept_tokens_max"]
        if row["keep"] == OWN_COUNT:
            assert row["keep_ratio"] is None
            assert spread == (20, 30)
            assert 20 < row["kept_tokens"] < 30
        else:
            assert spread[0] == row["kept_tokens"] == spread[1]


def test_own_counts_are_compared_with_no_other_method(made, audit):
    compared = [row for row in table(made, "comparisons") if row["versus"] != FULL]
    assert not any({row["method"], row["versus"]} & set(OWN) for row in compared)
    first = {row["scope"]: row for row in table(made, "correlations") if row["primary"]}
    n_kept, n_own = 2 * 3 * 3, 2 * 2  # datasets x methods x keeps, datasets x methods
    assert first["pooled"]["n_cells"] == first["within_model_dataset"]["n_cells"] == n_kept + n_own
    assert first["within_model_dataset_keep"]["n_cells"] == n_kept
    assert first["excess_over_random"]["n_cells"] == 2 * 2 * 3  # nothing at random was drawn for an own count
    assert OWN_COUNT not in audit.keeps
    assert len(audit.keeps) == 3


def test_a_point_stands_at_the_tokens_it_used(audit):
    points = [point for point in audit.points if point["keep"] == OWN_COUNT]
    assert {point["method"] for point in points} == set(OWN)
    assert all(token_share(point) == pytest.approx(25 / 144, abs=0.01) for point in points)
    assert audit.points.index(points[0]) > 0


def test_the_page_names_them_and_does_not_rank_them(made, tmp_path):
    page = made.build(tmp_path / "index.html")
    assert '<td data-v="">own count' in page
    assert re.search(r"2\d\.\d \(20 to 30\)", page), "kept tokens with their least and greatest"
    assert '"own count"' in (tmp_path / "index_files" / "samples-index.js").read_text()
    assert "Methods that set their own count stand in the table only" in page
    assert "keep own count" not in page
    findings = re.findall(r'<p class="finding">.*?</p>', page[: page.index('id="frontier"')], re.S)
    assert len(findings) == 3
    assert not any("prumerge" in finding for finding in findings)


@pytest.mark.parametrize("methods", [{}, {"random": (0,)}], ids=["nothing else", "random beside it"])
def test_a_sweep_of_own_counts_alone(tmp_path, methods):
    made = make_results(tmp_path, methods=methods, keeps=(), own=OWN, datasets=("scenes-yesno",))
    page = made.build(tmp_path / "index.html")
    assert "No keep was run with one method on every model and dataset." in page
    assert "Methods cannot be compared on this sweep." in page
    shares = curves.by_keep(read(made.root / "tables", made.sweep)).svg
    assert "prumerge" in shares


def own(**more):
    return cell("prumerge", "0.2500", **more) | {"keep": OWN_COUNT, "keep_ratio": None}


def test_no_budget_was_asked_for():
    audit = audit_of(own(kept_tokens=20.0), cell("lofi"))
    assert cautions(audit) == []
    assert sentences.mid_keep(audit) == "0.2500"
    assert [row["method"] for row in audit.at("0.2500")] == ["lofi"]
    changed_nothing = cautions(audit_of(own(agreement=1.0), cell("lofi")))
    assert "m / d / prumerge / own count / seed 0" in changed_nothing[0].detail


@pytest.mark.parametrize(
    ("kept", "mean", "warned"),
    [
        (36.5, 36.5, False),  # a calibrated method, over a dataset
        (37.0, 37.0, True),
        (12.0, 36.4, False),  # inside the LLM, budget over layers
        (36.0, 80.0, False),  # inside the LLM, budget after the last prune
        (12.0, 37.5, True),
        (40.0, None, True),
    ],
)
def test_either_budget_may_be_met(kept, mean, warned):
    found = cautions(audit_of(cell("lofi", kept_tokens=kept, layer_mean_tokens=mean)))
    assert [warning.title.partition("\xa0")[0] for warning in found] == ["1"] * warned
    if kept == 12.0 and warned:
        assert "(kept 12.0, 37.5 over layers, asked 36.0)" in found[0].detail


def test_counts_that_vary_are_shown_with_their_least_and_greatest():
    rows = [cell("a", kept_tokens_min=10, kept_tokens_max=50), cell("b", kept_tokens_min=36, kept_tokens_max=36)]
    kept = tables.table("kept", "", tables.KEPT, audit_of(*rows, cell("c")).points)
    column = [c.label for c in kept.columns].index("kept tokens")
    found = {line[0].text: line[column].text.replace("\xa0", " ") for line in kept.rows}
    assert (found["a"], found["b"], found["c"]) == ("36.0 (10 to 50)", "36.0", "36.0")


def test_means_over_seeds_keep_the_outermost_counts():
    seeds = [cell("a", kept_tokens_min=10 + i, kept_tokens_max=50 + i) | {"seed": i} for i in (0, 1)]
    (point,) = [p for p in audit_of(*seeds).points if p["method"] == "a"]
    assert (point["kept_tokens_min"], point["kept_tokens_max"]) == (10, 51)
