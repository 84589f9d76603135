"""How the samples were made: every value once, what readers look for first."""

import json
from dataclasses import replace

import pytest

from lofi.report.audit import Audit, Making, read
from lofi.report.page import Code, Fold, Listing, Prose
from lofi.report.pages import provenance
from lofi.report.tables import Table
from tests.unit.report_setup import make_results


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    made = make_results(tmp_path_factory.mktemp("results"), keeps=("0.2500",), images=4)
    return read(made.root / "tables", made.sweep)


def listings(audit: Audit) -> list[Listing]:
    (page,) = provenance.pages(audit)
    return [block for block in page.blocks if isinstance(block, Listing)]


def test_distinct_values_stand_together_and_what_matters_first(audit):
    stamps = [{"key": str(i), "commit": "abc", "constants": {"dtype": t}} for i, t in enumerate(("f32", "bf16"))]
    runs = [{"path": str(i), "errors": 0, "provenance": json.dumps(stamp)} for i, stamp in enumerate(stamps)]
    assert provenance.provenance(replace(audit, runs=runs)) == [("commit", "abc"), ("dtype", "bf16; f32")]
    many = [{"path": str(i), "errors": 0, "provenance": json.dumps({"host": f"h{i:02}"})} for i in range(20)]
    (found,) = provenance.provenance(replace(audit, runs=[*many, {"path": "x", "errors": 0, "provenance": None}]))
    assert found == ("host", "20 different values, such as h00")


def test_how_each_dataset_was_asked_and_graded(audit):
    rows = [tuple(row) for row in listings(audit)[2].rows]
    assert rows == [
        ("scenes-letters", "tiny-a", "lmms_eval", "letters", "1", "letters", "template of tiny-a", "original"),
        ("scenes-yesno", "tiny-a", "lmms_eval", "yesno", "1", "yesno", "template of tiny-a", "original"),
    ]


def test_the_command_and_the_date_are_given_where_they_are_known(audit):
    assert ("command", "not stated") in listings(audit)[0].rows
    made = replace(audit, making=Making("lofi report --date 2026-01-02", "2026-01-02", 8))
    assert listings(made)[0].rows[1:] == [("command", "lofi report --date 2026-01-02"), ("generated", "2026-01-02")]


def test_files_with_failed_samples_are_listed_the_worst_first(audit):
    (page,) = provenance.pages(audit)
    (failures,) = [block for block in page.blocks if isinstance(block, Table)]
    failed = [run for run in audit.runs if run["errors"]]
    assert len(failures.rows) == len(failed) > 0
    counts = [int(row[1].text) for row in failures.rows]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == sum(run["errors"] for run in failed)


def test_the_config_is_shown_as_it_is(audit):
    (page,) = provenance.pages(audit)
    fold = page.blocks[-1]
    assert isinstance(fold, Fold)
    (code,) = fold.blocks
    assert isinstance(code, Code)
    assert json.loads(code.text) == dict(audit.config)
    assert not any(isinstance(block, Prose) for block in page.blocks)
