"""The page of costs: against slow sums over the samples, and what it says where something is not known."""

from statistics import fmean, geometric_mean

import duckdb
import pyarrow.parquet as pq
import pytest

from lofi.cell import FLOOR, FULL
from lofi.report.audit import read
from lofi.report.drawing import Figure
from lofi.report.page import Finding, Prose
from lofi.report.pages.cost import OVER_DATASETS, POINTS, pages, three_digits
from lofi.report.tables import Table
from tests.unit import synthetic
from tests.unit.report_setup import make_results

POINT = ("model", "dataset", "method", "keep")


def spaced(text):
    return text.replace("\xa0", " ")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("cost"), datasets=("scenes-letters", "scenes-open"), own=("prumerge",))


@pytest.fixture(scope="module")
def audit(results):
    return read(results.root / "tables", results.sweep)


@pytest.fixture(scope="module")
def page(audit):
    (page,) = pages(audit)
    return page


def tables(page):
    return {block.id: block for block in page.blocks if isinstance(block, Table)}


def labels(found):
    return [column.label for column in found.columns]


def prose(page):
    return " ".join(str(block.html) for block in page.blocks if isinstance(block, Prose))


def changed(results, tmp_path, sql, names=("cells",)):
    """The same tables with other cells, or others in those of these names."""
    folder = tmp_path / "tables"
    folder.mkdir()
    for file in (results.root / "tables").glob("*.parquet"):
        (folder / file.name).write_bytes(file.read_bytes())
    with duckdb.connect() as con:
        for name in names:
            before, after = results.root / "tables" / f"{name}.parquet", folder / f"{name}.parquet"
            con.execute(f"COPY (SELECT * {sql} FROM '{before}') TO '{after}' (FORMAT parquet)")
    (page,) = pages(read(folder, results.sweep))
    return page


def test_every_point_equals_a_slow_computation(results, audit):
    cells, timings = (
        pq.read_table(results.root / "tables" / f"{name}.parquet").to_pylist() for name in ("cells", "timings")
    )
    cells = [cell | timed for cell, timed in zip(cells, timings, strict=True)]  # in one order
    points = {tuple(row[axis] for axis in POINT): row for row in audit.select(POINTS)}
    assert set(points) == {tuple(cell[axis] for axis in POINT) for cell in cells}

    def means(key):
        here = [cell for cell in cells if tuple(cell[axis] for axis in POINT) == key]
        read_ms = fmean(cell["t_select_ms"] + cell["t_prefill_ms"] for cell in here)
        all_ms = read_ms + fmean(cell["t_vision_ms"] + (cell["t_decode_ms"] or 0) for cell in here)
        return [read_ms, all_ms, *(fmean(cell[name] for cell in here) for name in ("decoder_tokens", "prefill_flops"))]

    for key, row in points.items():
        reference = means((*key[:2], FULL, "1.0000"))
        expected = [mine / full for mine, full in zip(means(key), reference, strict=True)]
        names = ("read_ratio", "time_ratio", "token_ratio", "flop_ratio")
        assert [row[name] for name in names] == pytest.approx(expected)


def test_the_figure_has_geometric_means_over_datasets(audit, page):
    (figure,) = [block for block in page.blocks if isinstance(block, Figure)]
    assert figure.rows == tuple(audit.select(figure.how.query)) == tuple(audit.select(OVER_DATASETS))
    points = audit.select(POINTS)
    for row in figure.rows:
        here = [point for point in points if (point["method"], point["keep"]) == (row["method"], row["keep"])]
        assert row["n_datasets"] == len(here) == 2
        assert row["read_ratio"] == pytest.approx(geometric_mean(point["read_ratio"] for point in here))
    drawn = [row for row in figure.rows if row["method"] != FLOOR]
    assert len(figure.rows) == len(drawn) + 1 == 11
    faster = sum(row["read_ratio"] < 1 for row in drawn)
    assert spaced(figure.title).startswith(f"In {faster} of 10 combinations of model, method and keep")


def test_the_page_names_the_device_and_the_noise(page):
    finding = page.blocks[0]
    assert isinstance(finding, Finding)
    text = spaced(f"{finding.headline} {finding.detail}")
    assert text.startswith("At keep 0.25 the LLM reads 31.")
    assert "of the operations. Selecting and prefilling took" in text
    assert "(floor), took" in text
    assert "They were taken on cpu (Abacus) while the sweep ran" in prose(page)
    assert "A dash" not in prose(page)
    time, work = tables(page)["cost-time"], tables(page)["cost-work"]
    assert "decode (ms)" in labels(time)
    assert labels(work)[-4:] == ["prefill GFLOPs", "GFLOPs / full", "cache (MiB)", "n"]
    assert len(time.rows) == len(work.rows) == 2 * (2 + 3 * 3 + 1)


def test_times_of_another_device_are_not_compared(results, tmp_path):
    page = changed(results, tmp_path, "REPLACE (if(method = 'lofi', 'other', device) AS device)")
    assert "They were taken on cpu (Abacus) and other while" in prose(page)
    assert spaced("A dash: 6 rows were not run on the device of its full model") in spaced(prose(page))
    time = tables(page)["cost-time"]
    dashes = [row for row in time.rows if row[labels(time).index("all stages / full")].text == "–"]
    assert len(dashes) == 6
    (figure,) = [block for block in page.blocks if isinstance(block, Figure)]
    assert {row["method"] for row in figure.rows} == {"random", "fastv", "prumerge", FLOOR}


def test_files_that_do_not_say_how_they_were_made(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "MADE_ON", {})
    results = make_results(tmp_path, datasets=("scenes-letters",))
    (page,) = pages(read(results.root / "tables", results.sweep))
    assert "No time can be compared with the full model's." in page.blocks[0].detail
    assert "a device that the sample files do not name" in prose(page)
    assert "Operations and cache are not shown" in prose(page)
    assert not [block for block in page.blocks if isinstance(block, Figure)]
    assert labels(tables(page)["cost-work"]) == ["dataset", "method", "keep", "decoder tokens", "tokens / full", "n"]


def test_without_a_floor_nobody_knows_the_noise(results, tmp_path):
    page = changed(results, tmp_path, "REPLACE (if(method = 'floor', 'fastv', method) AS method)", ("cells", "timings"))
    assert "Without a floor on the same device nobody knows" in page.blocks[0].detail


@pytest.mark.parametrize(
    ("value", "said"), [(None, "–"), (0.0, "0"), (0.00031, "0.000310"), (3.14159, "3.14"), (8012.4, "8012")]
)
def test_three_digits(value, said):
    assert three_digits(value) == said
