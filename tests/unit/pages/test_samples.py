"""The page of changed answers: what it says of them, for whatever the sweep has."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lofi.report import explorer
from lofi.report.audit import Audit, read
from lofi.report.page import Explorer, Finding, Prose
from lofi.report.pages import samples
from lofi.report.sources import text
from lofi.report.tables import Table
from tests.unit.report_setup import HOSTILE, Results, make_results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return make_results(tmp_path_factory.mktemp("results"))


def audit_of(results: Results, folder: Path, most: int = 1000, thumbnails: tuple[str, ...] = ()) -> Audit:
    audit = read(results.root / "tables", results.sweep)
    side = explorer.write(audit, results.root / "tables", results.root / "data", folder, thumbnails, most)
    return replace(audit, side=side)


def blocks_of(audit: Audit) -> list:
    (page,) = samples.pages(audit)
    assert page.id == "samples"
    return list(page.blocks)


def test_it_counts_the_changed_answers_and_says_that_all_are_there(results, tmp_path):
    finding, reading, shown, table = blocks_of(audit_of(results, tmp_path / "f"))
    flips = pq.read_table(results.root / "tables/flips.parquet").to_pylist()
    cells = pq.read_table(results.root / "tables/cells.parquet").to_pylist()
    answers = sum(cell["n"] for cell in cells if cell["method"] != "full")
    assert isinstance(finding, Finding)
    said = finding.headline.replace("\xa0", " ")
    assert said == f"{len(flips)} of {answers} answers are not the full model's ({100 * len(flips) / answers:.1f} %)."
    lost = sum(flip["class"] == "neg_flip" for flip in flips)
    assert f"{lost} lost" in finding.detail
    assert finding.detail.endswith("All of them are here.")
    assert isinstance(reading, Prose)
    assert "No images are shown" in reading.html
    assert isinstance(shown, Explorer)
    assert shown.how.n.replace("\xa0", " ") == f"n = {len(flips)} of {len(flips)} changed answers"
    assert isinstance(table, Table)
    assert sum(int(row[1].value) for row in table.rows) == len(flips)
    assert table.rows[0][0].text == "lost"


def test_what_is_left_out_is_said(results, tmp_path):
    finding, reading, *_ = blocks_of(audit_of(results, tmp_path / "f", 20, ("scenes-yesno",)))
    assert "Here are 20 of them, drawn evenly" in finding.detail.replace("\xa0", " ")
    assert "Dimmed squares are visual tokens" in reading.html


def test_lost_questions_are_said(results, tmp_path):
    other = replace(results, root=tmp_path)
    (tmp_path / "tables").symlink_to(results.root / "tables")
    _, reading, *_ = blocks_of(audit_of(other, tmp_path / "f"))
    assert "The prepared data no longer have" in reading.html


def test_queries_run_and_sources_exist(results, tmp_path):
    audit = audit_of(results, tmp_path / "f")
    _, _, shown, table = blocks_of(audit)
    assert len(audit.select(table.how.query)) == len(table.rows)
    assert len(audit.select(shown.how.query)) == 20
    assert all(text(name) for name in (*table.how.made_by, *shown.how.made_by))


def test_nothing_changed_and_nothing_run_are_said(results, tmp_path):
    root = tmp_path / "results"
    (root / "tables").mkdir(parents=True)
    for path in (results.root / "tables").glob("*.parquet"):
        whole = pq.read_table(path)
        pq.write_table(whole.slice(0, 0) if path.stem == "flips" else whole, root / "tables" / path.name)
    (finding,) = blocks_of(audit_of(replace(results, root=root), tmp_path / "none"))
    assert finding.headline.startswith("Not one of the ")
    cells = pq.read_table(root / "tables/cells.parquet")
    pq.write_table(cells.filter(pa.compute.field("method") == "full"), root / "tables/cells.parquet")
    (finding,) = blocks_of(audit_of(replace(results, root=root), tmp_path / "full"))
    assert finding.headline == "Nothing but the full model was run."


def test_hostile_texts_stay_texts(tmp_path):
    made = make_results(tmp_path / "results", datasets=("scenes-letters",), keeps=("0.2500",), hostile=True)
    audit = audit_of(made, tmp_path / "f", thumbnails=("scenes-letters",))
    _, reading, *_ = blocks_of(replace(audit, side=replace(audit.side, folder=HOSTILE)))
    assert "<script" not in reading.html
    assert "&lt;script&gt;" in reading.html
    for path in (tmp_path / "f").glob("*.js"):
        name, stamp, part = path.read_text().removeprefix("lofiPart(").removesuffix(");\n").split(",", 2)
        assert (json.loads(name), json.loads(stamp)) == (path.stem, audit.side.stamp)
        keys = json.loads(part).keys()
        assert HOSTILE not in str(keys)
