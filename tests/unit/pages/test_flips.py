"""The page of flips: its counts are those of the table of changed answers, and what is not defined is a dash."""

import json

import pytest

from lofi.cell import FLOOR
from lofi.report.audit import Audit
from lofi.report.drawing import Figure
from lofi.report.flip_classes import CLASSES, COUNTED, drawn, means
from lofi.report.flip_classes import query as classes
from lofi.report.page import Finding, Fold, Page, Prose, walk
from lofi.report.pages import flips
from lofi.report.sources import text as source
from lofi.report.tables import Table
from lofi.stats.query import query
from tests.unit.pages.conftest import Altered
from tests.unit.pages.reading import labels, plain, tables

TABLES = ("cells", "methods", "measures")
POINTS = 2 * 3 * (1 + 3 * 2 + 1)  # models x datasets x (floor, methods x keeps, own count)


@pytest.fixture(scope="module")
def page(spectral_audit: Audit) -> Page:
    [page] = flips.pages(spectral_audit)
    return page


def test_the_classes_are_those_of_the_changed_answers(spectral_audit: Audit) -> None:
    changed = spectral_audit.select("SELECT model, dataset, method, keep, class, count(*) AS n FROM flips GROUP BY ALL")
    counts = {(row["model"], row["dataset"], row["method"], row["keep"], row["class"]): row["n"] for row in changed}
    rows = spectral_audit.select(classes())
    assert len(rows) == POINTS
    for row in rows:
        for name in COUNTED:
            assert row[f"n_{name}"] == counts.get((row["model"], row["dataset"], row["method"], row["keep"], name), 0)
        parts = row["neg_flip"] + row["pos_flip"] + row["exchanged"]
        assert parts == pytest.approx(row["changed"])
        assert row["accuracy_change"] == pytest.approx(row["pos_flip"] - row["neg_flip"])


def test_the_hidden_ratio_of_one_seed_is_that_of_the_measures(spectral_audit: Audit) -> None:
    measured = spectral_audit.select(
        "SELECT model, dataset, method, keep, value FROM measures WHERE measure = 'hidden_ratio' AND method IN ('lofi', 'floor')"
    )
    rows = {
        (row["model"], row["dataset"], row["method"], row["keep"]): row["hidden_ratio"]
        for row in spectral_audit.select(classes())
    }
    assert {value is None for value in rows.values()} == {True, False}
    for row in measured:
        assert rows[row["model"], row["dataset"], row["method"], row["keep"]] == pytest.approx(row["value"])


def test_the_finding_has_the_means_of_the_harshest_keep(spectral_audit: Audit, page: Page) -> None:
    finding = page.blocks[0]
    assert isinstance(finding, Finding)
    overall = means(spectral_audit, spectral_audit.select(classes()))
    here = [overall[method, "16"] for method in ("random", "lofi", "fastv")]
    changed = sum(row["changed"] for row in here) / 3
    assert plain(finding.headline).startswith(
        f"At keep 16 tokens, {100 * changed:.1f} % of the answers change; accuracy"
    )
    assert f"n = {sum(row['n'] for row in here)}" in plain(finding.detail)
    assert "mean of 3 methods on 6 pairs" in plain(finding.detail)
    assert "The noise floor, the full model run again" in finding.detail


def test_every_number_can_be_asked_for_again(spectral_audit: Audit, page: Page) -> None:
    assert spectral_audit.source is not None
    blocks = [block for block in walk(page.blocks) if isinstance(block, Table | Figure)]
    assert len(blocks) == 6
    for block in blocks:
        assert block.how is not None
        assert all(source(name) for name in block.how.made_by)
        assert json.loads(query(" ".join(block.how.query.split()), spectral_audit.source.folder, "json"))
    for table in tables(page).values():
        assert len(table.rows) == POINTS
        assert labels(table)[:3] == ["model", "dataset", "method"]


def test_the_tables_have_each_divergence_with_its_excess_and_n(page: Page) -> None:
    made = tables(page)
    assert labels(made["flips-divergences"])[4:] == [
        *("changed, excess", "n", "KL, options", "KL, options, excess", "KL, tokens", "KL, tokens, excess"),
        *("n (options)", "n (tokens)"),
    ]
    others = labels(made["flips-others"])
    assert others.count("n (options)") == others.count("n (tokens)") == 1
    for name in ("JS", "TV"):
        for channel in ("options", "tokens"):
            assert {f"{name}, {channel}", f"{name}, {channel}, excess"} <= set(others)
    assert {"kappa", "answer drift", "yes", "lost of right"} <= set(labels(made["flips-habits"]))
    place = labels(made["flips-divergences"]).index("KL, options")
    open_rows = [row for row in made["flips-divergences"].rows if row[1].text == "scenes-open"]
    assert {row[place].text for row in open_rows} == {"–"}, "open questions have no options"


def test_the_figure_has_a_bar_for_every_mean(spectral_audit: Audit, page: Page) -> None:
    figure = next(block for block in page.blocks if isinstance(block, Figure))
    assert {(row["method"], row["keep"]) for row in figure.rows} == {
        (method, keep) for method in ("random", "lofi", "fastv") for keep in ("0.2500", "16")
    }
    assert len(figure.canvas.axes) == 2
    bars = sum(len(axes.patches) for axes in figure.canvas.axes)
    assert bars == 2 * len(spectral_audit.methods) * len(CLASSES)
    assert "stand in the table only" in figure.caption
    assert "Dotted line: the noise floor" in figure.caption
    assert len(figure.svg) < 120_000


def test_without_a_floor_no_excess_is_shown(altered: Altered) -> None:
    unknown = ", ".join(f"NULL::DOUBLE AS {name}" for name in ("floor", "excess", "excess_low", "excess_high"))
    audit = altered(
        cells=f"SELECT * FROM cells WHERE method <> '{FLOOR}'",
        methods=f"SELECT * FROM methods WHERE method <> '{FLOOR}'",
        measures=f"SELECT * REPLACE ({unknown}) FROM measures WHERE method <> '{FLOOR}'",
    )
    [page] = flips.pages(audit)
    finding = page.blocks[0]
    assert isinstance(finding, Finding)
    assert "The noise floor was not measured on every pair" in finding.detail
    assert not any("excess" in label for table in tables(page).values() for label in labels(table))
    figure = next(block for block in page.blocks if isinstance(block, Figure))
    assert "The noise floor was not measured on every pair." in figure.caption


def test_answers_without_grades_are_not_counted_as_kept(altered: Altered) -> None:
    unknown = ", ".join(f"NULL::BIGINT AS n_{name}" for name in COUNTED)
    bounds = ", ".join(f"NULL::DOUBLE AS neg_flip{end}" for end in ("", "_low", "_high"))
    audit = altered(
        cells=f"SELECT * REPLACE ({unknown}) FROM cells",
        methods=f"SELECT * REPLACE (0::BIGINT AS n_graded, {bounds}) FROM methods",
    )
    [page] = flips.pages(audit)
    finding = page.blocks[0]
    assert isinstance(finding, Finding)
    assert "Not all are graded, so how many are lost has no mean." in finding.detail
    assert drawn(audit, audit.select(classes())) is None
    table = tables(page)["flips-classes"]
    assert not {"lost (%)", "gained (%)", "hidden ratio"} & set(labels(table))
    assert {row[labels(table).index("graded (n)")].text for row in table.rows} == {"0"}


def test_without_a_shared_keep_the_page_says_so(altered: Altered) -> None:
    few = {name: f"SELECT * FROM {name} WHERE method IN ('full', '{FLOOR}', 'prumerge')" for name in TABLES}
    [page] = flips.pages(altered(**few))
    finding = page.blocks[0]
    assert isinstance(finding, Finding)
    assert finding.headline.startswith("No keep was run with one method on every model and dataset")
    assert not any(isinstance(block, Figure) for block in page.blocks)
    assert {row[2].text for row in tables(page)["flips-classes"].rows} == {FLOOR, "prumerge"}


def test_unparsed_answers_are_counted_or_said_to_be_none(page: Page, altered: Altered) -> None:
    folds = [block for block in page.blocks if isinstance(block, Fold)]
    assert folds[-1].summary.startswith("Answers that could not be parsed: at most")
    assert labels(tables(page)["flips-unparsed"])[4:6] == ["unparsed", "unparsed in full"]
    none = "CASE measure WHEN 'unparsed' THEN 0 ELSE {0} END AS {0}"
    replaced = ", ".join(none.format(name) for name in ("value", "full_value", "change"))
    [page] = flips.pages(altered(measures=f"SELECT * REPLACE ({replaced}) FROM measures"))
    last = page.blocks[-1]
    assert isinstance(last, Prose)
    assert "Every answer of every cell could be parsed." in last.html
