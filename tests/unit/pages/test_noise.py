"""The page of the noise floor: its numbers are those of the tables, and what is not known is said."""

import json
from pathlib import Path

import pytest

from lofi.cell import FLOOR, FULL, KEEP_ALL, Cell
from lofi.report.audit import Audit, read
from lofi.report.drawing import Figure
from lofi.report.floor import ABOVE, CHANGED, NO_FLOOR, OPEN, WITHIN, verdict
from lofi.report.page import Finding, Page, Prose, walk
from lofi.report.pages import calibration, noise
from lofi.report.sources import text as source
from lofi.report.tables import Table
from lofi.report.words import percent, small
from lofi.stats.aggregate import aggregate
from lofi.stats.query import query
from tests.unit.pages.reading import tables
from tests.unit.synthetic import HARM, Sweep, make_sweep, write_sweep

DATASETS = ("scenes-letters", "scenes-open")
DOLLARS = "a$b$_{c"  # were it mathematics, it would not parse
NAMELESS = "<b>$x$ & co</b>"


def audited(made: Sweep, root: Path) -> Audit:
    """The tables of a made-up sweep, opened."""
    aggregate(write_sweep(made, root, shards=1), root / "tables", root / "audit.duckdb", threads=1)
    return read(root / "tables", {})


def a_sweep(models: tuple[str, ...] = ("tiny-a",), **options: object) -> Sweep:
    """A sweep whose floor changes two answers of each dataset: another word than full's."""
    made = make_sweep(models=models, datasets=DATASETS, keeps=("0.2500", "16"), images=6, **options)  # type: ignore[arg-type]
    for cell, rows in made.items():
        if cell.method == FLOOR:
            for row in [row for row in rows if row["status"] == "ok"][:2]:
                row["prediction"] = row["prediction_parsed"] = "something else"
    return made


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    return audited(a_sweep(), tmp_path_factory.mktemp("noise"))


@pytest.fixture(scope="module")
def page(audit: Audit) -> Page:
    [page] = noise.pages(audit)
    return page


def test_it_leads_with_what_the_floor_changes(audit: Audit, page: Page) -> None:
    [floor] = audit.select(
        "SELECT sum(n)::BIGINT AS n, sum(n - n_agree)::BIGINT AS changed FROM cells WHERE method = 'floor'"
    )
    finding = page.blocks[0]
    assert isinstance(finding, Finding)
    assert floor["changed"] >= 2
    assert f"changes {floor['changed']} of {floor['n']}\N{NO-BREAK SPACE}answers" in finding.headline
    assert percent(floor["changed"] / floor["n"]) in finding.headline
    [kl] = audit.select("SELECT max(kl) AS kl FROM cells WHERE method = 'floor'")
    assert f"{small(kl['kl'])} nats" in finding.detail
    assert page.badge == 0


def test_every_number_can_be_asked_for_again(audit: Audit, page: Page) -> None:
    """The query of a table or figure gives its rows, and the sources that it names are there."""
    assert audit.source is not None
    for block in walk(page.blocks):
        if isinstance(block, Table | Figure):
            assert block.how is not None
            assert json.loads(query(block.how.query, audit.source.folder, "json"))
            assert all(source(name) for name in block.how.made_by)
    shown = tables(page)["noise-answers"]
    assert shown.how is not None
    found = json.loads(query(shown.how.query, audit.source.folder, "json"))
    asked = {
        (row["dataset"], row["method"], str(row["keep"])): row
        for row in found
        if (row["channel"], row["measure"]) == ("answer", "divergence_rate")
    }
    places = {column.label: place for place, column in enumerate(shown.columns)}
    assert len(shown.rows) == len([key for key in asked if key[1] != FLOOR]) == 2 * 3 * 2
    point = {(p["dataset"], p["method"], p["keep"]): p for p in audit.points}
    by_label = zip(shown.rows, [key for key in point if key[1] not in (FULL, FLOOR)], strict=True)
    for entries, key in by_label:
        assert entries[places["method"]].text == key[1]
        assert entries[places["answers changed"]].text.startswith(percent(asked[key]["value"]))
        assert float(entries[places["answers changed"]].value) == pytest.approx(1 - point[key]["agreement"], rel=1e-5)
        assert float(entries[places["answers changed, excess"]].value) == pytest.approx(
            point[key]["divergence_excess"], rel=1e-5
        )
        assert int(entries[places["n"]].value) == point[key]["n"]


def test_the_figure_splits_changed_answers(audit: Audit, page: Page) -> None:
    [figure] = [block for block in walk(page.blocks) if isinstance(block, Figure)]
    floor = [1 - p["agreement"] for p in audit.points if p["method"] == FLOOR]
    assert [row["method"] for row in figure.rows] == list(audit.methods)
    for row in figure.rows:
        here = [1 - p["agreement"] for p in audit.points if (p["method"], p["keep"]) == (row["method"], row["keep"])]
        assert row[CHANGED.key] == pytest.approx(sum(here) / 2)
        assert row[f"{CHANGED.key}_excess"] == pytest.approx((sum(here) - sum(floor)) / 2)
    bars = figure.canvas.axes[0].patches
    widths = [bar.get_width() for bar in bars]  # type: ignore[attr-defined]
    assert sum(widths) == pytest.approx(sum(100 * row[CHANGED.key] for row in figure.rows))
    assert "the floor" in figure.svg


def test_verdicts_are_counted(page: Page) -> None:
    counted = tables(page)["noise-within"]
    listed = tables(page)["noise-answers"]
    verdicts = [row[-1].text for row in listed.rows]
    assert set(verdicts) <= {ABOVE, WITHIN, OPEN}
    for place, column in enumerate(counted.columns):
        if column.label in (ABOVE, WITHIN, OPEN):
            assert sum(int(row[place].value) for row in counted.rows) == verdicts.count(column.label)


@pytest.mark.parametrize(
    ("excess", "low", "expected"),
    [(0.1, 0.02, ABOVE), (0.1, 0.0, WITHIN), (0.1, -0.1, WITHIN), (-0.1, None, WITHIN), (0.0, None, WITHIN),
     (0.1, None, OPEN), (None, None, NO_FLOOR)],
)  # fmt: skip
def test_a_point_is_held_against_the_floor(excess: float | None, low: float | None, expected: str) -> None:
    assert verdict({f"{CHANGED.key}_excess": excess, f"{CHANGED.key}_excess_low": low}) == expected


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "–"),
        (0.0, "0"),
        (0.25, "0.250"),
        (-0.0005, "−0.001"),
        (0.00049, "4.9 × 10⁻⁴"),
        (-3.14e-12, "−3.1 × 10⁻¹²"),
    ],
)
def test_only_zero_is_written_as_zero(value: float | None, written: str) -> None:
    assert small(value) == written


def test_without_a_floor_it_says_so_and_how_to_add_it(tmp_path: Path) -> None:
    made = {cell: rows for cell, rows in a_sweep().items() if cell.method != FLOOR}
    [page] = noise.pages(audited(made, tmp_path))
    [finding] = page.blocks
    assert isinstance(finding, Finding)
    assert finding.headline.startswith("This sweep has no noise floor")
    assert "lofi reference" in finding.detail
    assert page.badge == 1


def test_pairs_without_a_floor_are_named(tmp_path: Path) -> None:
    """Names are text, and what has no floor has a dash for its excess."""
    made = a_sweep(("tiny-a", NAMELESS))
    for dataset in DATASETS:
        del made[Cell(NAMELESS, dataset, FLOOR, KEEP_ALL)]
    audit = audited(made, tmp_path)
    [page] = noise.pages(audit)
    named = next(block.html for block in page.blocks if isinstance(block, Prose))
    assert "scenes-letters with &lt;b&gt;$x$ &amp; co&lt;/b&gt;" in named
    assert "<b>" not in named
    assert page.badge == 1
    shown = tables(page)["noise-answers"]
    for row in shown.rows:
        texts = [entry.text for entry in row]
        assert (texts[-1] == NO_FLOOR) == (texts[0] == NAMELESS)
        assert (texts[[c.label for c in shown.columns].index("answers changed, excess")] == "–") == (
            texts[0] == NAMELESS
        )
    [figure] = [block for block in walk(page.blocks) if isinstance(block, Figure)]
    assert "means over 2\N{NO-BREAK SPACE}pairs" in figure.caption


def test_a_method_with_its_own_count_and_dollars_in_its_name_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dollar sign is a dollar sign; where no keep is shared the figures are of the methods' own counts."""
    monkeypatch.setitem(HARM, DOLLARS, 0.4)
    audit = audited(a_sweep(methods={}, own=(DOLLARS,)), tmp_path)
    blocks = [block for page in (*noise.pages(audit), *calibration.pages(audit)) for block in page.blocks]
    drawings = [block for block in blocks if isinstance(block, Figure)]
    assert len(drawings) == 4
    assert all(DOLLARS in drawing.svg for drawing in drawings)
    assert all(drawing.title.startswith("At own count, ") for drawing in drawings)
