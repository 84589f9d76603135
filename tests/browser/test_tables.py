"""Tables and figures of the report in a real browser: sorted, filtered and downloaded."""

import csv
import io
from pathlib import Path
from typing import Any

from tests.browser.chromium import Page, open_all_pages, page_ids

# Every column of every table, clicked twice: what is out of order after that, and how many columns there were.
SORTED = """(() => {
  const [wrong, sorts] = [[], { ascending: 0, descending: 0 }];
  for (const table of all("table.data")) {
    all("thead th", table).forEach((th, column) => {
      for (const click of [1, 2]) {
        th.querySelector("button").click();
        const order = th.getAttribute("aria-sort");
        sorts[order] += 1;
        const texts = Array.from(table.tBodies[0].rows, (row) => value(row.cells[column]));
        const told = texts.filter((text) => text !== "");
        const numeric = th.classList.contains("num");
        const keys = numeric ? told.map(Number) : told;
        const rises = numeric ? (a, b) => a <= b : (a, b) => a.localeCompare(b, "en", { numeric: true }) <= 0;
        const falls = (a, b) => rises(b, a);
        const fine = keys.every((key, i) => i === 0 || (order === "ascending" ? rises : falls)(keys[i - 1], key))
          && texts.slice(told.length).every((text) => text === "") && !keys.some(Number.isNaN)
          && all("th[aria-sort]", table).length === 1;
        if (!fine) wrong.push(`${table.id}, ${th.textContent}, ${order}`);
      }
    });
  }
  return [wrong, sorts];
})()"""


def test_a_click_sorts_any_column_and_a_second_click_turns_it_round(report: Path, page: Page) -> None:
    open_all_pages(page, report)
    columns = page.run("all('table.data thead th').length")
    rows = page.run("all('table.data tbody tr').length")
    wrong, sorts = page.run(SORTED)
    assert wrong == []
    assert sorts == {"ascending": columns, "descending": columns}
    assert page.run("all('table.data tbody tr').length") == rows > 100


def test_numbers_sort_largest_first_and_undefined_ones_stay_last(report: Path, page: Page) -> None:
    open_all_pages(page, report)
    heads = page.run("all('table.data th.num').length")
    assert heads > 50
    first = (
        """all("table.data th.num").map((th) => (th.querySelector("button").click(), th.getAttribute("aria-sort")))"""
    )
    assert page.run(first) == ["descending"] * heads
    assert (
        page.run("""all("table.data tbody td").filter((cell) => values(cell,
        cell.closest("table").tHead.rows[0].cells[cell.cellIndex])[0] === "").length""")
        > 0
    )


def test_the_keyboard_reaches_a_column_header_and_sorts(report: Path, page: Page) -> None:
    open_all_pages(page, report)
    page.show(page.run("document.querySelector('table.data').id"))
    page.run("document.querySelector('table.data th button').focus()")
    for kind in ("keyDown", "keyUp"):
        page.send("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13)
    assert page.run("document.querySelector('table.data th').getAttribute('aria-sort')") in ("ascending", "descending")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.run(f"document.activeElement.matches(':focus-visible') && {outline}") == "solid"


def test_typing_filters_the_rows_of_a_table(report: Path, page: Page) -> None:
    open_all_pages(page, report)
    wrong = page.run(
        """(() => {
          const wrong = [];
          for (const input of all("[data-filter]")) {
            const rows = Array.from(document.getElementById(input.dataset.filter).tBodies[0].rows);
            if (rows.length === 0) continue;
            const words = Array.from(rows.at(-1).cells, (cell) => cell.textContent.trim()).filter(Boolean).slice(0, 2);
            const type = (text) => { input.value = text; input.dispatchEvent(new Event("input", { bubbles: true })); };
            type(words.join(" ").toUpperCase());
            const asked = words.join(" ").toLowerCase().split(/\\s+/);
            const fits = (row) => asked.every((word) => Array.from(row.cells, (c) => c.textContent.trim()).join(" ").toLowerCase().includes(word));
            if (rows.at(-1).hidden || rows.some((row) => row.hidden === fits(row))) wrong.push(`${input.dataset.filter}: ${asked}`);
            type("no row says so");
            if (!rows.every((row) => row.hidden)) wrong.push(`${input.dataset.filter}: nothing`);
            type("");
            if (rows.some((row) => row.hidden)) wrong.push(`${input.dataset.filter}: everything`);
          }
          return wrong;
        })()"""
    )
    assert wrong == []


def downloads(page: Page, kind: str) -> list[dict[str, Any]]:
    """What the buttons of that kind would save: name, type and text, and the place it belongs to."""
    return list(
        page.run(
            f"""(() => {{
              const saved = [];
              const save = download;
              for (const button of all("[data-{kind}]")) {{
                download = (name, type, text) => saved.push({{ id: button.dataset.{kind}, name, type, text }});
                button.click();
              }}
              download = save;
              return saved;
            }})()"""
        )
    )


def test_csv_of_a_table_holds_its_numbers_with_their_bounds(report: Path, page: Page) -> None:
    open_all_pages(page, report)
    shapes = page.run(
        """Object.fromEntries(all("table.data").map((table) => [table.id, {
          rows: table.tBodies[0].rows.length,
          columns: all("thead th", table).flatMap((th) => {
            const kind = { name: th.querySelector(".label").textContent, numeric: th.classList.contains("num") };
            return "bounds" in th.dataset ? [kind, { ...kind, name: `${kind.name} low` }, { ...kind, name: `${kind.name} high` }] : [kind];
          }),
        }]))"""
    )
    saved = downloads(page, "csv")
    assert {file["id"] for file in saved} == set(shapes)
    assert sum(any(column["name"].endswith(" low") for column in shape["columns"]) for shape in shapes.values()) > 2
    for file in saved:
        assert (file["name"], file["type"]) == (f"lofi-{file['id']}.csv", "text/csv")
        head, *rows = csv.reader(io.StringIO(file["text"], newline=""))
        columns = shapes[file["id"]]["columns"]
        assert head == [column["name"] for column in columns]
        assert len(rows) == shapes[file["id"]]["rows"]
        for row in rows:
            for text, column in zip(row, columns, strict=True):
                assert not column["numeric"] or text == "" or float(text) == float(text), (file["id"], column, text)


def test_a_download_is_saved_from_a_page_on_disk(report: Path, page: Page, tmp_path: Path) -> None:
    open_all_pages(page, report)
    page.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path), eventsEnabled=True)
    try:
        (expected, *_), name = downloads(page, "csv"), page.run("document.querySelector('[data-csv]').dataset.csv")
        page.run("document.querySelector('[data-csv]').click()")
        while not any(event.get("params", {}).get("state") == "completed" for event in page.events):
            page.run("new Promise((done) => setTimeout(done, 20))")
        assert (tmp_path / f"lofi-{name}.csv").read_bytes().decode() == expected["text"]
    finally:
        page.send("Browser.setDownloadBehavior", behavior="default")


def test_data_of_a_figure_are_its_rows_and_its_drawing_is_a_file_of_its_own(report: Path, page: Page) -> None:
    open_all_pages(page, report)
    figures = page.run("all('figure').map((figure) => figure.id)")
    assert len(figures) > 5
    drawings = downloads(page, "svg")
    assert [file["id"] for file in drawings] == figures
    for file in drawings:
        assert file["name"] == f"lofi-{file['id']}.svg"
        assert file["text"].startswith("<svg ")
        assert 'xmlns="http://www.w3.org/2000/svg"' in file["text"]
    data = downloads(page, "rows")
    assert [file["id"] for file in data] == figures
    for file in data:
        head, *rows = csv.reader(io.StringIO(file["text"], newline=""))
        assert rows
        assert {len(row) for row in rows} == {len(head)}


def test_a_spreadsheet_runs_no_text_of_a_download(report: Path, page: Page) -> None:
    open_all_pages(page, report)
    assert page.run("""csv([["=1+1", "-a", "-0.5", "@x", 'say "hi", all', null]])""") == (
        '\'=1+1,\'-a,-0.5,\'@x,"say ""hi"", all",\r\n'
    )


def test_the_query_of_a_number_can_be_copied(report: Path, page: Page) -> None:
    open_all_pages(page, report)
    buttons = page.run("all('[data-copy]').length")
    assert buttons > 10
    assert page.run("all('.how code').filter((code) => code.textContent.startsWith('lofi query ')).length") == buttons
    page.show(page_ids(page)[0])
    page.run("""(() => { const button = document.querySelector("[data-copy]"); button.closest("details").open = true;
        button.click(); })()""")
    page.run("new Promise((done) => setTimeout(done, 100))")
    assert page.run(
        "document.querySelector('[data-copy]').textContent === 'copied' || getSelection().toString() !== ''"
    )
