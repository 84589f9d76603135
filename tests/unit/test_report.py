"""The whole report: every page in one file, with nothing in it that its input does not say."""

import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pyarrow.parquet as pq
import pytest

from lofi.errors import UserError
from lofi.report import build as build_module
from lofi.report.audit import read
from lofi.report.build import all_pages
from lofi.report.definitions import names
from lofi.report.page import Finding, Page, walk
from lofi.report.pages import PAGES, definitions
from lofi.report.render import SCRIPTS, command
from lofi.report.sources import anchor, hows, text
from lofi.scoring.figures import METRICS
from lofi.stats.query import query
from tests.unit.report_setup import HOSTILE, Results, make_results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Every text of it tries to become markup."""
    return make_results(tmp_path_factory.mktemp("results"), hostile=True, images=4)


@pytest.fixture(scope="module")
def pages(results: Results) -> list[Page]:
    return all_pages(read(results.root / "tables", results.sweep))


@pytest.fixture(scope="module")
def page(results: Results, tmp_path_factory: pytest.TempPathFactory) -> str:
    return results.build(tmp_path_factory.mktemp("page") / "index.html", command=HOSTILE, generated=HOSTILE)


class Links(HTMLParser):
    """Every attribute that makes a browser load something, all ids, all inner links, and the tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.inner: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            value = value or ""
            if name == "id":
                self.ids.append(value)
            if name in ("href", "xlink:href") and value.startswith("#"):
                self.inner.append(value[1:])
            elif name in ("src", "srcset", "data", "poster", "action", "xlink:href") or (name == "href" and tag != "a"):
                self.loads.append(value)


# ---- the file --------------------------------------------------------------------------------------------------


def test_the_page_asks_for_nothing_and_every_link_inside_it_has_a_target(page):
    links = Links(page)
    assert all(load.startswith("data:image/png;base64,") for load in links.loads), links.loads
    assert not re.search(r"@import|url\((?!#)", page)
    assert len(set(links.ids)) == len(links.ids)
    assert set(links.inner) <= set(links.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(links.ids)


def test_every_page_has_an_id_a_heading_and_an_entry_in_the_navigation(page, pages):
    ids = [each.id for each in pages]
    assert len(set(ids)) == len(ids)
    assert re.findall(r'<section class="page[^"]*" id="([^"]+)"', page) == ids
    assert re.findall(r'<section class="page current" id="([^"]+)"', page) == ids[:1]
    navigation = page[page.index("<nav") : page.index("</nav>")]
    assert re.findall(r'href="#([^"]+)"', navigation) == ids
    for each in pages:
        assert f'<h2 id="{each.id}-h" tabindex="-1">{html.escape(each.title)}</h2>' in page
        assert each.title
        assert each.blocks
        assert set(each.terms) <= set(names()), each.id
    assert {ids[0], *ids[-2:]} == {"answer", "definitions", "sources"}


def test_tables_have_captions_and_drawings_titles(page):
    links = Links(page)
    assert links.tags.count("h1") == 1
    assert links.tags.count("caption") == links.tags.count("table")
    assert page.count('role="img"') == page.count("<title id=")


def test_same_input_same_bytes(results, page, tmp_path):
    assert results.build(tmp_path / "again" / "index.html", command=HOSTILE, generated=HOSTILE) == page


def test_a_page_that_would_be_too_large_is_refused_and_leaves_the_old_one(results, tmp_path, monkeypatch):
    monkeypatch.setattr(build_module, "PAGES", (definitions.pages,))
    output = tmp_path / "index.html"
    before = results.build(output)
    files = sorted(path.name for path in (tmp_path / "index_files").iterdir())
    monkeypatch.setattr(build_module, "MAX_BYTES", 10_000)
    with pytest.raises(UserError, match=r"would have 0\.\d MB, more than 0; split the sweep"):
        results.build(output)
    assert output.read_text(encoding="utf-8") == before
    assert sorted(path.name for path in (tmp_path / "index_files").iterdir()) == files
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "index_files"]


def test_a_folder_with_files_of_somebody_else_is_left_alone(results, tmp_path):
    (tmp_path / "index_files").mkdir()
    (tmp_path / "index_files" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"holds 'thesis\.tex', which lofi did not write"):
        results.build(tmp_path / "index.html")
    assert not (tmp_path / "index.html").exists()
    assert (tmp_path / "index_files" / "thesis.tex").exists()


def test_every_text_is_escaped(page):
    links = Links(page)
    assert page.count("<script") == links.tags.count("script")
    assert len(re.findall(r"<script(?! type=\"application/json\")", page)) == len(SCRIPTS)
    assert "img" not in links.tags
    assert html.escape(HOSTILE).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page
    assert "<script>alert" not in page
    assert "{{ 7 * 7 }}" in page
    assert not any(load.startswith("http") for load in links.loads)


# ---- where numbers come from -----------------------------------------------------------------------------------


def test_every_number_names_its_query_its_sources_and_its_n(results, pages):
    found = list(hows(pages))
    assert len(found) > len(PAGES)
    for each in {how.query: how for how in found}.values():
        rows = json.loads(query(each.query, results.root / "tables", format="json"))
        assert isinstance(rows, list), each.query
    for each in found:
        assert each.made_by
        assert each.n.strip(), each
        assert all(text(name).strip() for name in each.made_by)


def test_every_table_and_figure_says_how(pages):
    for each in pages:
        for block in walk(each.blocks):
            if type(block).__name__ in ("Figure", "Table", "Explorer"):
                assert block.how is not None, (each.id, block)
            if type(block).__name__ == "Figure":
                assert block.rows, (each.id, block.id)


def test_sources_are_shown_once_and_a_function_by_itself(page, pages):
    wanted = {name for how in hows(pages) for name in how.made_by}
    for name in wanted:
        assert page.count(f'id="{anchor(name)}"') == 1
    assert text("report/sources.py:anchor").startswith("def anchor(name: str) -> str:")
    assert text("report/how.py:How").startswith("@dataclass(frozen=True)\nclass How:")
    assert text("stats/cells.sql").startswith("-- One row per cell")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("stats/nothing.sql", "is not a file of the package"),
        ("../pyproject.toml", "is not a file of the package"),
        ("stats/resample.py:nothing", "names no function or class of stats/resample.py"),
    ],
)
def test_a_source_that_is_not_there_is_an_error(name, said):
    with pytest.raises(LookupError, match=said):
        text(name)


@pytest.mark.parametrize(
    ("sql", "line"),
    [
        ("SELECT 1\n  AS one", 'lofi query "SELECT 1 AS one"'),
        ("SELECT 'a'", "lofi query \"SELECT 'a'\""),
        ('SELECT "primary"', "lofi query 'SELECT \"primary\"'"),
        ("SELECT '$x', \"y\"", "lofi query 'SELECT '\"'\"'$x'\"'\"', \"y\"'"),
    ],
)
def test_the_line_to_ask_again_is_quoted_for_a_shell(sql, line, pages):
    how = replace(next(hows(pages)), query=sql)
    assert command(how) == line


def test_the_numbers_of_a_figure_can_be_read_out_of_the_page(page, pages):
    figures = [b for each in pages for b in walk(each.blocks) if type(b).__name__ == "Figure"]
    for figure in figures:
        found = re.search(rf'<script type="application/json" id="data-{figure.id}">(.*?)</script>', page, re.S)
        data = json.loads(found.group(1))
        assert len(data["rows"]) == len(figure.rows)
        assert all(len(row) == len(data["columns"]) for row in data["rows"])


# ---- refusals --------------------------------------------------------------------------------------------------


def test_missing_cells_stop_the_report_and_are_listed(results, tmp_path):
    absent = [results.root / f"samples/model=m/absent-{i}.parquet" for i in range(30)]
    with pytest.raises(UserError, match=r"30 of \d+ cells are missing: .*absent-0.*and 10 more") as raised:
        Results(results.root, results.sweep, [*results.files, *absent]).build(tmp_path / "x.html")
    assert "absent-19" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_cells_newer_than_the_tables_stop_the_report(tmp_path):
    made = make_results(tmp_path, datasets=("scenes-yesno",), methods={"lofi": (0,)}, keeps=("0.2500",))
    table = pq.read_table(made.files[0])
    pq.write_table(table.replace_schema_metadata({b"lofi": json.dumps({"key": "new"}).encode()}), made.files[0])
    with pytest.raises(UserError, match="run `lofi aggregate` again"):
        made.build(tmp_path / "x.html")


def test_missing_tables_are_named(results, tmp_path):
    empty = Results(tmp_path, results.sweep, [])
    with pytest.raises(UserError, match=r"cells\.parquet, correlations\.parquet, flips\.parquet, runs\.parquet"):
        empty.build(tmp_path / "x.html")


# ---- sweeps of other shapes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape",
    [
        {"methods": {"lofi": (0,)}, "keeps": ("0.2500",), "datasets": ("scenes-open",)},
        {"methods": {"random": (0, 1)}, "keeps": ("16",), "datasets": ("scenes-yesno",)},
        {"models": ("tiny-a", "tiny-b"), "keeps": ("0.5000", "0.2500")},
    ],
    ids=["one method, one keep", "random only, a count", "two models"],
)
def test_sweeps_of_other_shapes(shape, tmp_path):
    made = make_results(tmp_path, **shape, images=3)
    pages = all_pages(read(made.root / "tables", made.sweep))
    assert pages[0].id == "answer"
    assert all(page.blocks for page in pages)


def test_without_spectra_flips_or_comparisons_every_page_says_something(tmp_path):
    made = make_results(tmp_path, datasets=("scenes-yesno",), keeps=("0.2500",), images=3, stability=False)
    for name in ("flips", "correlations", "spectra", "forecast", "forecast_cells", "comparisons", "sample_shifts"):
        path = tmp_path / "tables" / f"{name}.parquet"
        pq.write_table(pq.read_table(path).slice(0, 0), path)
    pages = all_pages(read(made.root / "tables", made.sweep))
    assert all(page.blocks for page in pages)
    findings = [block for block in pages[0].blocks if isinstance(block, Finding)]
    assert "This sweep cannot test the IPR claim." in [finding.headline for finding in findings]


def test_every_figure_of_a_benchmark_has_a_definition():
    for family in METRICS.values():
        for figure in family:
            assert f"figure-{figure.metric.replace('_', '-')}" in names(), figure.metric
