"""What a report costs that has many cells: bytes in the file, and elements in the browser."""

import re
from pathlib import Path

import pytest

from lofi.report.fit import MOST_ENTRIES
from tests.browser.chromium import Page, page_ids
from tests.browser.scaled import Large, make_large
from tests.conftest import require

MOST_BYTES = 15_000_000
OF_AN_ENTRY = 30  # bytes of one entry of a table, its share of the row included
ELEMENTS = "document.querySelectorAll('*').length"
SEEN = "all('body *').filter((element) => element.checkVisibility()).length"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Large, Path]:
    """Five times the cells of the report that other tests open, and its page."""
    require("chromium", "apt-get install chromium")
    made = make_large(tmp_path_factory.mktemp("large"), models=4, datasets=3, methods=4, keeps=3, images=4, copies=2)
    page = tmp_path_factory.mktemp("report") / "index.html"
    made.build(page)
    return made, page


def bodies(page: Path) -> list[str]:
    return re.findall(r'<table id="[^>]*class="data.*?<tbody>(.*?)</tbody>', page.read_text(encoding="utf-8"), re.S)


def test_an_entry_of_a_table_takes_few_bytes(large: tuple[Large, Path]) -> None:
    made, page = large
    found = bodies(page)
    assert made.n_cells == 168
    entries = sum(body.count("<td") for body in found)
    assert entries > 100 * made.n_cells  # it is what grows with the sweep
    assert sum(len(body.encode()) for body in found) < OF_AN_ENTRY * entries
    assert OF_AN_ENTRY * MOST_ENTRIES <= 0.6 * MOST_BYTES


def test_a_browser_makes_one_page_and_lays_out_one(large: tuple[Large, Path], report: Path, page: Page) -> None:
    counted = []
    for file in (report, large[1]):
        page.open(file)
        assert page.run("sections.filter((page) => !packed(page)).map((page) => page.id)") == ["answer", "samples"]
        counted.append(page.run(ELEMENTS))
    assert counted[1] < 1.2 * counted[0] < 1200
    ids = page_ids(page)
    before = page.run(SEEN)
    for id in ids:
        page.show(id)
    page.show(ids[0])
    assert page.run(ELEMENTS) > 10 * counted[1]
    assert page.run(SEEN) == before < 600


@pytest.mark.slow
def test_two_thousand_cells_fit(page: Page, tmp_path: Path) -> None:
    made = make_large(tmp_path / "results", models=4, datasets=10, images=10, copies=2)
    assert made.n_cells == 2080
    made.build(tmp_path / "index.html")
    assert (tmp_path / "index.html").stat().st_size < MOST_BYTES
    assert sum(body.count("<td") for body in bodies(tmp_path / "index.html")) <= MOST_ENTRIES
    page.open(tmp_path / "index.html")
    assert page.run(ELEMENTS) < 2000
