"""The page of calibration: the two channels apart, the tables' numbers, and what cannot be told is said."""

import json
from pathlib import Path

import pytest

from lofi.cell import FULL
from lofi.report.audit import Audit
from lofi.report.drawing import Figure
from lofi.report.page import Finding, Page, walk
from lofi.report.pages import calibration
from lofi.report.sources import text as source
from lofi.report.tables import Table
from lofi.report.words import NONE, percent
from lofi.stats.query import query
from tests.unit.pages.reading import figures, tables
from tests.unit.pages.test_noise import audited
from tests.unit.synthetic import make_sweep

OPTIONS, OPEN = ("scenes-letters", "scenes-yesno"), ("scenes-open",)


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    made = make_sweep(models=("tiny-a",), keeps=("0.2500", "16"), images=6)
    return audited(made, tmp_path_factory.mktemp("calibration"))


@pytest.fixture(scope="module")
def page(audit: Audit) -> Page:
    [page] = calibration.pages(audit)
    return page


def column(table: Table, label: str) -> list[str]:
    place = [column.label for column in table.columns].index(label)
    return [row[place].value for row in table.rows]


def test_the_two_channels_are_in_no_table_together(page: Page) -> None:
    found = tables(page)
    for id, datasets in (("calibration-options", OPTIONS), ("calibration-text", OPEN), ("margins-options", OPTIONS),
                         ("margins-tokens", OPEN), ("fifths-options", OPTIONS), ("fifths-tokens", OPEN)):  # fmt: skip
        assert set(column(found[id], "dataset")) == set(datasets)
    assert "NLL" not in [c.label for c in found["calibration-text"].columns]
    assert set(figures(page)) == {"fig-reliability-options", "fig-reliability-text", "fig-margins"}


def test_every_number_can_be_asked_for_again(audit: Audit, page: Page) -> None:
    assert audit.source is not None
    for block in walk(page.blocks):
        if isinstance(block, Table | Figure):
            assert block.how is not None
            assert json.loads(query(block.how.query, audit.source.folder, "json"))
            assert all(source(name) for name in block.how.made_by)


def test_errors_are_those_of_the_measures_with_their_change(audit: Audit, page: Page) -> None:
    shown = tables(page)["calibration-options"]
    for name, label in (("ece", "ECE"), ("brier", "Brier"), ("nll", "NLL"), ("aurc", "AURC")):
        rows = audit.select(
            f"SELECT dataset, method, keep, avg(value) AS value, avg(change) AS change, sum(n)::BIGINT AS n FROM measures"
            f" WHERE channel = 'options' AND measure = '{name}' AND dataset <> 'scenes-open' GROUP BY ALL"
        )
        found = {(row["dataset"], row["method"], row["keep"]): row for row in rows}
        keys = [(p["dataset"], p["method"], p["keep"]) for p in audit.points if p["dataset"] != "scenes-open"]
        values, changes = column(shown, label), column(shown, f"{label}, change")
        counts = column(shown, "n (NLL)" if name == "nll" else "n")
        for key, value, change, n in zip(keys, values, changes, counts, strict=True):
            assert float(value) == pytest.approx(found[key]["value"], rel=1e-5)
            assert int(n) == found[key]["n"]
            assert (change == "") == (key[1] == FULL)  # the full model has no change from itself
            assert not change or float(change) == pytest.approx(found[key]["change"], rel=1e-5)
    place = [c.label for c in shown.columns].index("ECE, change")
    assert {row[place].text for i, row in enumerate(shown.rows) if column(shown, "method")[i] == FULL} == {NONE}
    assert any(row[place].low for row in shown.rows)


def test_the_finding_counts_certain_changes(audit: Audit, page: Page) -> None:
    first, second = page.blocks[:2]
    assert isinstance(first, Finding)
    assert isinstance(second, Finding)
    shown = tables(page)["calibration-options"]
    place = [c.label for c in shown.columns].index("ECE, change")
    reduced = [row for row in shown.rows if row[1].text in audit.methods]
    up = sum(float(row[place].low or 0) > 0 for row in reduced)
    down = sum(float(row[place].high or 0) < 0 for row in reduced)
    assert f"rises in {up} and falls in {down} of {len(reduced)}\N{NO-BREAK SPACE}combinations" in first.headline
    assert first.headline.startswith("Answers read from the options")
    assert second.headline.startswith("Generated answers")


def test_the_diagram_has_every_graded_answer(audit: Audit, page: Page) -> None:
    figure = figures(page)["fig-reliability-options"]
    [keep] = {k for k in ("0.2500", "16") if f"keep {float(k):g}" in figure.title}
    [total] = audit.select(
        "SELECT sum(n)::BIGINT AS n, sum(n * (confidence - accuracy)) AS gap FROM calibration WHERE channel = 'options'"
        f" AND binning = 'equal_mass' AND (method = 'full' OR keep = '{keep}')"
    )
    assert sum(row["n"] for row in figure.rows) == total["n"]
    assert sum(row["n"] * (row["confidence"] - row["accuracy"]) for row in figure.rows) == pytest.approx(total["gap"])
    assert {row["method"] for row in figure.rows} == {FULL, *audit.methods}
    assert "likelihood of the whole generated text" in figures(page)["fig-reliability-text"].caption


def test_fifths_have_every_changed_answer(audit: Audit, page: Page) -> None:
    figure = figures(page)["fig-margins"]
    keep = "0.2500"
    places = ", ".join(f"'{method}'" for method in audit.methods)
    where = f"keep = '{keep}' AND method IN ({places})"
    [changed] = audit.select(f"SELECT sum(n - n_agree)::BIGINT AS n FROM cells WHERE {where}")
    assert sum(row["n_changed"] for row in figure.rows) == changed["n"]
    least = sum(row["n_changed"] for row in figure.rows if row["fifth"] == 1)
    assert percent(least / changed["n"]) in figure.title
    shown = tables(page)["margins-options"]
    rows = audit.select(
        "SELECT dataset, method, keep, avg(value) AS auroc, count(value) = count(*) AS whole FROM measures WHERE"
        " channel = 'options' AND measure = 'margin_auroc' GROUP BY ALL"
    )
    found = {(r["dataset"], r["method"], r["keep"]): r["auroc"] if r["whole"] else None for r in rows}
    keys = [(p["dataset"], p["method"], p["keep"]) for p in audit.points]
    keys = [key for key in keys if key[0] in OPTIONS and key[1] != FULL]
    for key, value in zip(keys, column(shown, "AUROC"), strict=True):
        assert (value == "") == (found[key] is None)
        assert not value or float(value) == pytest.approx(found[key], rel=1e-5)


def test_without_grades_only_the_margin_is_left(tmp_path: Path) -> None:
    made = make_sweep(models=("tiny-a",), datasets=("scenes-letters",), keeps=("0.2500",), images=4)
    for rows in made.values():
        for row in rows:
            row |= {"correct": None, "score": None, "target": None}
    [page] = calibration.pages(audited(made, tmp_path))
    assert isinstance(page.blocks[0], Finding)
    assert page.blocks[0].headline.startswith("No answer of this sweep has both a grade and a confidence")
    assert set(figures(page)) == {"fig-margins"}
    assert set(tables(page)) == {"margins-options", "fifths-options"}
    assert not any("NaN" in row.text for table in tables(page).values() for rows in table.rows for row in rows)


def test_a_sweep_of_full_alone_compares_nothing(tmp_path: Path) -> None:
    made = make_sweep(models=("tiny-a",), datasets=("scenes-letters",), methods={}, images=4)
    [page] = calibration.pages(audited(made, tmp_path))
    assert isinstance(page.blocks[0], Finding)
    assert "cannot be compared" in page.blocks[0].headline
    assert not figures(page)
