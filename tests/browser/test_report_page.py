"""The report in a real browser: opened from disk, read, sorted, filtered, printed, in light and dark."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import Page
from tests.conftest import require
from tests.unit.report_setup import make_results

# Shares a person reads; widths a person has.
NARROW, WIDE = 390, 1280


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require("chromium", "apt-get install chromium")
    output = tmp_path_factory.mktemp("report") / "index.html"
    make_results(tmp_path_factory.mktemp("results")).build(output, generated="2026-01-02")
    return output


@pytest.fixture(scope="module")
def page(report: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with Page(tmp_path_factory.mktemp("profile")) as page:
        yield page


def column(page: Page, header: str) -> list[str]:
    """What the first table sorts by in the column of that header, row by row, hidden rows left out."""
    found = page.run(
        f"""(() => {{
          const table = document.querySelector("#kept-0");
          const place = all("th .label", table.tHead).findIndex((label) => label.textContent === "{header}");
          return Array.from(table.tBodies[0].rows).filter((row) => !row.hidden).map((row) => value(row.cells[place]));
        }})()"""
    )
    return list(found)


def press(page: Page, header: str) -> str:
    """Click a header's button; what the header then says of its order."""
    return str(
        page.run(
            f"""(() => {{
              const button = all("#kept-0 th button").find((button) => button.textContent === "{header}");
              button.click();
              return button.closest("th").getAttribute("aria-sort");
            }})()"""
        )
    )


def test_it_opens_from_disk_without_a_complaint_or_a_request(report: Path, page: Page) -> None:
    page.open(report)
    assert page.run("document.querySelector('h1').textContent") == "Does it still give the same answers?"
    page.run("new Promise((done) => setTimeout(done, 300))")
    assert page.complaints() == []
    assert page.requests() == [report.resolve().as_uri()]


def test_a_click_sorts_a_column_and_a_second_click_turns_it_round(report: Path, page: Page) -> None:
    page.open(report)
    header = "answers kept (agreement)"
    before = [float(v) for v in column(page, header)]
    assert press(page, header) == "descending"
    assert [float(v) for v in column(page, header)] == sorted(before, reverse=True) != before
    assert press(page, header) == "ascending"
    assert [float(v) for v in column(page, header)] == sorted(before)
    assert press(page, "method") == "ascending"
    assert column(page, "method") == sorted(column(page, "method"))


def test_undefined_numbers_sort_last_in_both_directions(report: Path, page: Page) -> None:
    page.open(report)
    for _ in range(2):
        press(page, "excess (points)")
        values = column(page, "excess (points)")
        assert "" in values
        assert "" not in values[: -values.count("")]


def test_typing_filters_the_rows_of_a_table(report: Path, page: Page) -> None:
    page.open(report)
    page.run(
        """(() => { const input = document.querySelector('[data-filter="kept-0"]');
        input.value = "LOFI 0.25"; input.dispatchEvent(new Event("input", { bubbles: true })); })()"""
    )
    assert set(column(page, "method")) == {"lofi"}
    assert set(column(page, "keep")) == {"0.25"}


def test_choosing_a_method_filters_the_changed_samples(report: Path, page: Page) -> None:
    page.open(report)
    shown = "all('.sample').filter((sample) => sample.offsetParent !== null)"
    everything = page.run(f"{shown}.length")
    page.run(
        """(() => { const select = document.querySelector('#sample-filters [name="method"]');
        select.value = "fastv"; select.dispatchEvent(new Event("input", { bubbles: true })); })()"""
    )
    assert page.run(f"[...new Set({shown}.map((sample) => sample.dataset.method))]") == ["fastv"]
    assert 0 < page.run(f"{shown}.length") < everything
    assert page.run("document.querySelector('#sample-filters output').textContent") == (
        f"{page.run(f'{shown}.length')} shown"
    )


def test_csv_holds_the_numbers_not_their_spelling(report: Path, page: Page) -> None:
    page.open(report)
    lines = page.run("csv(document.querySelector('#kept-0'))").split("\r\n")
    assert lines[0].startswith(
        "method,keep,answers kept (agreement),answers kept (agreement) low,answers kept (agreement) high,accuracy kept"
    )
    assert lines[1].split(",")[:3] == ["full", "1", "1"]
    assert 0 < float(lines[3].split(",")[2]) <= 1
    assert (
        page.run("""csv(Object.assign(document.createElement("table"), { innerHTML:
        '<thead><tr><th><span class="label">a</span></th></tr></thead><tbody><tr><td>=1+1</td></tr></tbody>' }))""")
        == ("a\r\n'=1+1\r\n")
    )


def test_without_javascript_everything_can_be_read(report: Path, page: Page) -> None:
    page.open(report, script=False)
    document = page.send("DOM.getDocument", depth=-1)["root"]
    assert "scripted" not in page.send("DOM.getOuterHTML", nodeId=document["nodeId"])["outerHTML"].split("<head>")[0]
    tree = page.send("Accessibility.getFullAXTree")["nodes"]
    names = [str(node.get("name", {}).get("value", "")) for node in tree if not node.get("ignored")]
    roles = [str(node.get("role", {}).get("value", "")) for node in tree if not node.get("ignored")]
    text = "\n".join(names)
    for words in (
        "The answer",
        "noise floor",
        "accuracy kept and answers kept",
        "fastv",
        "Right in full, wrong in reduced",
    ):
        assert words in text
    assert roles.count("article") > 10
    assert roles.count("table") >= 3
    assert "Download CSV" not in text  # what needs a script is not shown
    assert "Filter rows" not in text


@pytest.mark.parametrize("width", [NARROW, WIDE])
@pytest.mark.parametrize("script", [True, False])
def test_nothing_sticks_out_to_the_right(report: Path, page: Page, width: int, script: bool) -> None:
    page.open(report, width=width, script=script)
    size = page.send("Page.getLayoutMetrics")["cssContentSize"]
    assert size["width"] <= width


def test_dark_mode_is_dark(report: Path, page: Page) -> None:
    page.open(report)
    light, light_page = page.screenshot(), background(page)
    page.open(report, dark=True)
    dark, dark_page = page.screenshot(), background(page)
    assert light != dark
    assert sum(light_page) > 3 * 240
    assert sum(dark_page) < 3 * 60


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_enough_contrast(report: Path, page: Page, dark: bool) -> None:
    page.open(report, dark=dark)
    low = page.run(
        r"""(() => {
          const parts = (text) => text.match(/[\d.]+/g).map(Number);
          const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
            .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
          const behind = (element) => {
            for (let at = element; at; at = at.parentElement) {
              const [r, g, b, alpha = 1] = parts(getComputedStyle(at).backgroundColor);
              if (alpha === 1) return [r, g, b];
            }
            return [255, 255, 255];
          };
          const found = new Set();
          for (const element of all("body *:not(svg *):not(script):not(option)")) {
            if (!Array.from(element.childNodes).some((node) => node.nodeType === 3 && node.data.trim())) continue;
            const [one, two] = [light(parts(getComputedStyle(element).color)), light(behind(element))];
            const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
            if (ratio < 4.5) found.add(`${element.tagName} .${element.className} ${ratio.toFixed(2)}`);
          }
          return [...found];
        })()"""
    )
    assert low == []


def test_the_keyboard_reaches_a_column_header_and_sorts(report: Path, page: Page) -> None:
    page.open(report)
    page.run("document.querySelector('#kept-0 th button').focus()")
    for kind in ("keyDown", "keyUp"):
        page.send("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13)
    assert page.run("document.querySelector('#kept-0 th').getAttribute('aria-sort')") == "ascending"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.run(f"document.activeElement.matches(':focus-visible') && {outline}") == "solid"


def test_printing_shows_whole_tables_and_no_controls(report: Path, page: Page) -> None:
    page.open(report)
    page.send("Emulation.setEmulatedMedia", media="print")
    try:
        visible = "all('{}').some((element) => element.checkVisibility())"
        assert not page.run(visible.format("nav, .tools, .filters, .def"))
        assert page.run("all('.scroll, .samples').every((box) => getComputedStyle(box).overflowY === 'visible')")
        assert page.run(visible.format("#correlations"))
    finally:
        page.send("Emulation.setEmulatedMedia", media="")


def background(page: Page) -> list[int]:
    """Red, green and blue of the page behind the text."""
    colour = page.run("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    return [int(part) for part in colour]
