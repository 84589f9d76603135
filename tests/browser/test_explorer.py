"""The sample explorer in a real browser: from disk and from a server, its filters, pages, links and what is missing."""

import http.server
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.browser.chromium import Page
from tests.browser.test_axe import VIOLATIONS, axe
from tests.unit.report_setup import HOSTILE, make_results

ROWS = "#explorer .sample"


def settled(page: Page) -> str:
    """What the explorer counts, once that has changed since the last call; the rows are there then."""
    return str(
        page.run(
            """new Promise((done) => {
              const count = document.querySelector("#explorer output");
              const wait = () => (count.textContent ? done(count.textContent) : setTimeout(wait, 10));
              wait();
            })"""
        )
    ).replace("\xa0", " ")


def act(page: Page, script: str) -> str:
    """Do something that shows other rows, and what is counted then."""
    page.run(f"""(() => {{ document.querySelector("#explorer output").textContent = ""; {script} }})()""")
    return settled(page)


def fill(page: Page, **fields: str) -> str:
    """Type into the filters."""
    lines = [f"form.elements[{json.dumps(name)}].value = {json.dumps(value)};" for name, value in fields.items()]
    return act(
        page,
        f"""const form = document.querySelector("#explorer form"); {" ".join(lines)}
        form.elements.words.dispatchEvent(new Event("input", {{ bubbles: true }}));""",
    )


def choose(page: Page, name: str, label: str) -> str:
    """Choose an entry of a filter by what it says."""
    code = page.run(
        f"Array.from(document.querySelector('#explorer form').elements[{json.dumps(name)}].options)"
        f".find((option) => option.textContent === {json.dumps(label)}).value"
    )
    return fill(page, **{name: str(code)})


def texts(page: Page, selector: str) -> list[str]:
    """What stands in each element."""
    found = page.run(f"Array.from(document.querySelectorAll({json.dumps(selector)}), (each) => each.textContent)")
    return [str(text) for text in found]


def margins(page: Page) -> list[float]:
    """The margins in full of the rows that are shown, in their order."""
    return [float(text.split("margin ")[1].split(" in full")[0]) for text in texts(page, f"{ROWS} .meta")]


@pytest.fixture
def opened(report: Path, page: Page) -> Page:
    """The report, at its samples."""
    page.open(report)
    page.show("samples")
    settled(page)
    return page


def test_nothing_is_loaded_before_it_is_asked_for(report: Path, page: Page) -> None:
    page.open(report)
    page.settle()
    assert page.requests() == [report.resolve().as_uri()]
    page.show("samples")
    counted = settled(page)
    page.settle()
    names = {url.rsplit("/", 1)[1] for url in page.requests()[1:]}
    assert {name for name in names if name.endswith(".js")} == {"samples-index.js", "samples-0.js", "questions-0.js"}
    assert counted.startswith("1 to 25 of ")
    assert page.complaints() == []


def test_a_row_shows_answers_probabilities_picture_and_ids(opened: Page) -> None:
    choose(opened, "dataset", "scenes-letters")
    assert len(texts(opened, f"{ROWS} h3")) == len(texts(opened, f"{ROWS} .thumb")) > 3
    for name in ("full", "reduced", "right"):
        assert name in texts(opened, f"{ROWS}:first-of-type .answers dt")
    assert len(texts(opened, f"{ROWS}:first-of-type .probs tbody th")) == 4
    shares = texts(opened, f"{ROWS}:first-of-type .probs tbody td")
    assert all(text.replace("\xa0", " ").endswith(" %") for text in shares)
    assert sum(text.endswith("(right)") for text in texts(opened, f"{ROWS}:first-of-type .probs tbody th")) == 1
    assert "visual tokens kept; margin " in texts(opened, f"{ROWS}:first-of-type .meta")[0]
    dimmed = opened.run(f"document.querySelector('{ROWS} .dropped').getAttribute('d')")
    kept = int(texts(opened, f"{ROWS} .meta")[0].split(" of 144 visual")[0].split()[-1])
    lengths = [int(piece.split("h")[1].split("v")[0]) for piece in dimmed.split("M")[1:]]
    assert sum(lengths) == 144 - kept
    loaded = f"new Promise((done) => {{ const i = new Image(); i.onload = () => done(i.naturalWidth); i.src = \
        document.querySelector('{ROWS} .thumb image').getAttribute('href'); }})"
    assert opened.run(loaded) == 96


def test_axe_finds_no_violation_in_the_rows(opened: Page) -> None:
    opened.run(axe())
    rules, found = opened.run(VIOLATIONS)
    assert rules > 20
    assert found == []


def test_the_overlay_can_be_switched_off(opened: Page) -> None:
    shown = f"document.querySelector('{ROWS} .dropped').checkVisibility()"
    assert opened.run(shown)
    opened.run("document.querySelector('#explorer [name=overlay]').click()")
    assert not opened.run(shown)


def test_filters_narrow_down_and_clear_brings_all_back(opened: Page) -> None:
    everything = settled(opened)
    assert choose(opened, "method", "fastv") != everything
    choose(opened, "class", "lost")
    counted = choose(opened, "model", "tiny-b")
    metas = texts(opened, f"{ROWS} .meta")
    assert len(metas) == int(counted.split(" of ")[1].split(" rows")[0]) > 0
    assert all(meta.startswith("lost fastv; ") and "tiny-b" in meta for meta in metas)
    assert act(opened, "document.querySelector('#explorer [type=reset]').click();") == everything


def test_a_range_of_margins_and_the_orders(opened: Page) -> None:
    fill(opened, least="0.5", most="2", order="margin 1")
    found = margins(opened)
    assert found == sorted(found)
    assert 0.49 <= found[0] <= found[-1] <= 2
    fill(opened, order="margin -1")
    assert margins(opened) == sorted(margins(opened), reverse=True)
    assert fill(opened, least="1000") == "no rows"
    assert texts(opened, "#explorer .samples")[0] == "No row passes these filters."


def test_the_search_loads_its_texts_and_takes_every_word(opened: Page) -> None:
    assert not any("samples-search" in url for url in opened.requests())
    fill(opened, words="PICTURE 4?  scenes-letters")
    assert any("samples-search" in url for url in opened.requests())
    assert set(texts(opened, f"{ROWS} h3")) == {"What is in picture 4? "}
    assert all("scenes-letters-004-" in text for text in texts(opened, f"{ROWS} .meta code"))
    assert fill(opened, words="no such words") == "no rows"


def test_pages_turn_and_end(opened: Page) -> None:
    first = texts(opened, f"{ROWS} .meta")
    turn = "Array.from(document.querySelectorAll('#explorer [data-turn]')).find((b) => b.textContent === '{}')"
    assert opened.run(f"{turn.format('Previous')}.disabled")
    assert act(opened, f"{turn.format('Next')}.click();").startswith("26 to 50 of ")
    assert not set(texts(opened, f"{ROWS} .meta")) & set(first)
    act(opened, f"{turn.format('Last')}.click();")
    assert opened.run(f"{turn.format('Next')}.disabled")
    total = int(settled(opened).split(" of ")[1].split(" rows")[0])
    assert len(texts(opened, ROWS)) == (total - 1) % 25 + 1
    act(opened, f"{turn.format('First')}.click();")
    assert texts(opened, f"{ROWS} .meta") == first


def test_a_link_shows_its_row_on_load_and_later(report: Path, opened: Page) -> None:
    ids = [text.split()[1] for text in texts(opened, f"{ROWS} a[href^='#sample=']")]
    assert act(opened, f"location.hash = 'sample={ids[7]}';") == "1 row, by its link"
    assert texts(opened, f"{ROWS} a[href^='#sample=']") == [f"row {ids[7]}"]
    assert act(opened, "document.querySelector('#explorer .fine a').click();").startswith("1 to 25 of ")
    opened.open(report, at=f"sample={ids[3]}")
    assert settled(opened) == "1 row, by its link"
    assert opened.run("document.querySelector('#samples').checkVisibility()")
    assert texts(opened, f"{ROWS} a[href^='#sample=']") == [f"row {ids[3]}"]
    choose(opened, "method", "lofi")
    assert opened.run("location.hash") == "#samples"
    act(opened, "location.hash = 'sample=000000000000';")
    assert "does not hold the row of this link" in texts(opened, "#explorer .samples")[0]


def test_a_row_gives_its_link(opened: Page) -> None:
    opened.send("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    opened.run(f"document.querySelector('{ROWS} .meta button').click()")
    opened.settle()
    id = texts(opened, f"{ROWS} a[href^='#sample=']")[0].split()[1]
    hash = opened.run("location.hash")
    copied = texts(opened, f"{ROWS} .meta button")[0] == "copied"
    assert copied or hash == f"#sample={id}"


def test_without_the_folder_it_says_so(report: Path, page: Page, tmp_path: Path) -> None:
    alone = Path(shutil.copy(report, tmp_path / "alone.html"))
    page.open(alone, at="samples")
    assert settled(page) == "no rows"
    assert texts(page, "#explorer .samples")[0] == (
        "samples-index.js of the folder index_files is not beside this page. Put the folder there, or make both again "
        "with lofi report."
    )


def test_the_folder_of_another_report_is_refused(report: Path, page: Page, tmp_path: Path) -> None:
    mixed = Path(shutil.copy(report, tmp_path / "mixed.html"))
    mixed.write_text(mixed.read_text().replace('data-stamp="', 'data-stamp="0'))
    shutil.copytree(report.with_name("index_files"), tmp_path / "index_files")
    page.open(mixed, at="samples")
    assert settled(page) == "no rows"
    assert "belongs to another report" in texts(page, "#explorer .samples")[0]


@pytest.fixture
def server(report: Path) -> Iterator[str]:
    """The folder of the report, served on this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        log_message: Callable[..., Any] = staticmethod(lambda *_: None)

    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(report.parent)))
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}/index.html"
    served.shutdown()
    served.server_close()


def test_it_works_from_a_server_too(page: Page, server: str) -> None:
    page.events.clear()
    page.send("Page.navigate", url=f"{server}#samples")
    page.run("new Promise((done) => (document.readyState === 'complete' ? done() : (onload = done)))")
    assert settled(page).startswith("1 to 25 of ")
    assert all(url.startswith("http://127.0.0.1") for url in page.requests())


def test_without_script_it_says_where_the_rows_are(report: Path, page: Page) -> None:
    page.open(report, script=False)
    names = [str(node.get("name", {}).get("value", "")) for node in page.send("Accessibility.getFullAXTree")["nodes"]]
    assert any("Looking at single rows here needs a script" in name for name in names)


def test_hostile_texts_never_become_markup(page: Page, tmp_path: Path) -> None:
    made = make_results(tmp_path / "results", datasets=("scenes-letters",), keeps=("0.2500",), hostile=True)
    made.build(tmp_path / "index.html")
    page.open(tmp_path / "index.html", at="samples")
    settled(page)
    assert HOSTILE in texts(page, f"{ROWS} h3")[0]
    assert page.run(f"document.querySelectorAll('{ROWS} script, {ROWS} img, {ROWS} style').length") == 0
    assert HOSTILE in " ".join(texts(page, "#explorer [name=category] option"))
    assert page.complaints() == []
    assert all(url.startswith("file:") for url in page.requests())
