"""The first page: the sentences with their numbers, the warnings, the counts."""

import math
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lofi.report.audit import Audit, read
from lofi.report.page import Caution, Finding, Prose, Tally
from lofi.report.pages import answer
from tests.unit.report_setup import make_results


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    made = make_results(tmp_path_factory.mktemp("results"), models=("tiny-a", "tiny-b"), own=("prumerge",), images=4)
    return read(made.root / "tables", made.sweep)


def test_the_query_gives_the_means_that_the_page_shows(audit):
    rows = {(row["method"], row["keep"]): row for row in audit.select(answer.OVERALL)}
    assert rows.keys() == audit.overall.keys()
    for key, row in rows.items():
        mean = audit.overall[key]
        for column in answer.SHARES:
            if column.startswith("accuracy_"):
                continue
            assert (row[column] is None) == (mean[column] is None), (key, column)
            assert row[column] is None or math.isclose(row[column], mean[column], abs_tol=1e-12), (key, column)
        assert row["n"] == mean["n"]


def test_a_mean_without_one_of_its_values_is_no_mean(audit, tmp_path):
    cells = pq.read_table(audit.source.folder / "cells.parquet")
    names = list(zip(cells["method"].to_pylist(), cells["keep"].to_pylist(), strict=True))
    values = cells["relative_accuracy"].to_pylist()
    values[names.index(("lofi", "0.2500"))] = None
    place = cells.column_names.index("relative_accuracy")
    cells = cells.set_column(place, "relative_accuracy", pa.array(values, pa.float64()))
    for path in audit.source.folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "cells.parquet").unlink()
    pq.write_table(cells, tmp_path / "cells.parquet")
    poorer = read(tmp_path, {})
    found = next(r for r in poorer.select(answer.OVERALL) if (r["method"], r["keep"]) == ("lofi", "0.2500"))
    assert found["relative_accuracy"] is None
    assert found["agreement"] is not None
    assert poorer.overall["lofi", "0.2500"]["relative_accuracy"] is None


def test_the_page_leads_with_findings_then_the_figure_and_warns(audit):
    (page,) = answer.pages(audit)
    kinds = [type(block).__name__ for block in page.blocks]
    assert kinds[:4] == ["Finding", "Finding", "Finding", "Figure"]
    assert page.badge == kinds.count("Caution") > 0
    assert kinds[-1] == "Tally"
    assert all(block.how for block in page.blocks if isinstance(block, Finding))
    titles = [block.title for block in page.blocks if isinstance(block, Caution)]
    assert "Some cells hold only" in " ".join(titles)
    figure = page.blocks[3]
    assert {row["method"] for row in figure.rows} >= {"full", "floor", "random", "lofi", "fastv", "prumerge"}


def test_the_counts_are_those_of_the_tables(audit):
    (page,) = answer.pages(audit)
    tally = dict(next(block for block in page.blocks if isinstance(block, Tally)).entries)
    assert tally["cells found"] == str(len(audit.cells))
    assert tally["sample files found"] == str(len(audit.runs))
    assert tally["sample files expected"] == "not stated"
    assert tally["samples per cell"] == "12"
    assert (tally["models"], tally["datasets"], tally["methods"], tally["keeps"]) == ("2", "2", "4", "3")


def test_a_sweep_without_a_floor_says_so_and_a_clean_one_that_it_is(tmp_path):
    made = make_results(tmp_path, datasets=("scenes-open",), methods={"lofi": (0,)}, keeps=("0.2500",), images=40)
    audit = read(tmp_path / "tables", made.sweep)
    rows = [cell for cell in audit.cells if cell["method"] != "floor"]
    (page,) = answer.pages(replace(audit, cells=rows))
    titles = [block.title for block in page.blocks if isinstance(block, Caution)]
    assert "The noise floor is missing" in titles
    clean = [
        {**cell, "agreement": 1.0 if cell["method"] in ("full", "floor") else 0.9, "n": 120, "unparsed": 0.0}
        for cell in audit.cells
    ]
    runs = [{**run, "errors": 0} for run in audit.runs]
    (page,) = answer.pages(replace(audit, cells=clean, runs=runs))
    assert page.badge == 0, [block for block in page.blocks if isinstance(block, Caution)]
    assert "No warnings" in " ".join(str(block.html) for block in page.blocks if isinstance(block, Prose))
