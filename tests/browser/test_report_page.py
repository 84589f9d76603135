"""The report in a real browser: opened from disk, paged through, read without a script, printed, in light and dark."""

from pathlib import Path

import pytest

from tests.browser.chromium import Page, open_all_pages, page_ids

# Widths a person has.
NARROW, WIDE = 390, 1280
SHOWN = "all('.page').filter((section) => section.checkVisibility()).map((section) => section.id)"


def follow(page: Page, selector: str) -> None:
    """Click a link."""
    page.run(f"document.querySelector({selector!r}).click()")
    page.settle()


def test_it_opens_from_disk_without_a_complaint_or_a_request(report: Path, page: Page) -> None:
    page.open(report)
    assert page.run("document.querySelector('h1').textContent") == "Does it still give the same answers?"
    for id in page_ids(page):
        page.show(id)
    page.run("new Promise((done) => setTimeout(done, 300))")
    assert page.complaints() == []
    asked = page.requests()
    assert asked[0] == report.resolve().as_uri()
    beside = f"{report.resolve().parent.as_uri()}/{report.stem}_files/"
    assert [url for url in asked[1:] if not url.startswith(beside)] == []


def test_every_entry_of_the_navigation_shows_its_page_and_no_other(report: Path, page: Page) -> None:
    page.open(report)
    ids = page_ids(page)
    assert page.run("all('nav a').map((link) => link.hash.slice(1))") == ids
    assert len(set(ids)) == len(ids) > 5
    assert page.run(SHOWN) == ids[:1]
    for id in reversed(ids):
        follow(page, f'nav a[href="#{id}"]')
        assert page.run(SHOWN) == [id]
        assert page.run("all('nav [aria-current=page]').map((link) => link.hash)") == [f"#{id}"]
        assert page.run("document.activeElement.id") == f"{id}-h"  # a screen reader reads on from the heading
        assert page.run("scrollY") == 0
        follow(page, ".skip")
        assert page.run(SHOWN) == [id]  # past the navigation, to this page and no other
        if id != ids[0]:
            assert page.run("document.title").startswith(page.run(f"document.getElementById('{id}-h').textContent"))


def test_the_way_back_leads_to_the_place_one_came_from(report: Path, page: Page) -> None:
    page.open(report)
    first, *_, last = page_ids(page)
    page.run("scrollTo(0, 200)")
    came_from = page.run("scrollY")
    follow(page, f'nav a[href="#{last}"]')
    assert page.run(SHOWN) == [last]
    page.run("new Promise((done) => { addEventListener('hashchange', () => done(), { once: true }); history.back(); })")
    page.settle()
    assert page.run(SHOWN) == [first]
    assert page.run("scrollY") == came_from


@pytest.mark.parametrize("loaded", [True, False])
def test_a_link_to_a_definition_and_to_a_table_leads_there(report: Path, page: Page, loaded: bool) -> None:
    open_all_pages(page, report)
    tables = page.run("all('.page').slice(1).map((section) => section.querySelector('table[id]')?.id).filter(Boolean)")
    for anchor in ("def-agreement", tables[0], tables[-1]):
        if loaded:
            page.show(anchor)
        else:
            page.open(report, at=anchor)
            page.settle()
        holder = page.run(f"document.getElementById('{anchor}').closest('.page').id")
        assert page.run(SHOWN) == [holder]
        top = page.run(f"document.getElementById('{anchor}').getBoundingClientRect().top")
        assert -1 <= top < 900


def test_an_unknown_anchor_shows_the_first_page(report: Path, page: Page) -> None:
    for anchor in ("no-such-page", "%", "a%20b=c"):
        page.open(report, at=anchor)
        assert page.run(SHOWN) == page_ids(page)[:1]
        assert page.complaints() == []


def test_every_link_inside_the_report_has_a_target_and_every_id_is_there_once(report: Path, page: Page) -> None:
    open_all_pages(page, report)
    assert page.run("all('a').length") > 50
    assert page.run("all('a').map((link) => link.getAttribute('href')).filter((href) => !href.startsWith('#'))") == []
    inside = "all('a').map((link) => link.hash.slice(1)).filter((id) => !id.startsWith('sample='))"  # those are of rows
    lost = f"{inside}.filter((id) => !document.getElementById(id))"
    assert page.run(f"[...new Set({lost})]") == []
    again = "all('[id]').map((element) => element.id).filter((id, i, ids) => ids.indexOf(id) !== i)"
    assert page.run(again) == []
    tied = "all('[aria-labelledby]').flatMap((element) => element.getAttribute('aria-labelledby').split(' '))"
    assert page.run(f"{tied}.filter((id) => !document.getElementById(id))") == []


def test_without_javascript_every_page_can_be_read(report: Path, page: Page) -> None:
    open_all_pages(page, report)
    headings = page.run("all('h2').map((heading) => heading.textContent)")
    captions = page.run("all('table.data:not(details *) caption').map((caption) => caption.textContent)")
    page.open(report, script=False)
    document = page.send("DOM.getDocument", depth=-1)["root"]
    assert "scripted" not in page.send("DOM.getOuterHTML", nodeId=document["nodeId"])["outerHTML"].split("<head>")[0]
    tree = [node for node in page.send("Accessibility.getFullAXTree")["nodes"] if not node.get("ignored")]
    names = [(str(node.get("role", {}).get("value")), str(node.get("name", {}).get("value", ""))) for node in tree]
    assert set(headings) <= {name for role, name in names if role == "heading"}
    assert set(captions) <= {name for role, name in names if role == "table"}
    text = "\n".join(name for _, name in names)
    for control in ("Download CSV", "Filter rows", "Theme"):  # what needs a script is not shown
        assert control not in text


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_nothing_sticks_out_to_the_right(report: Path, page: Page, width: int) -> None:
    page.open(report, width=width)
    wide = {}
    for id in page_ids(page):
        page.show(id)
        page.run("all('details').forEach((fold) => { fold.open = fold.checkVisibility(); })")
        wide[id] = page.send("Page.getLayoutMetrics")["cssContentSize"]["width"]
    assert {id: found for id, found in wide.items() if found > width} == {}
    page.open(report, width=width, script=False)
    assert page.send("Page.getLayoutMetrics")["cssContentSize"]["width"] <= width


def test_the_colours_follow_the_system_until_the_reader_chooses(report: Path, page: Page) -> None:
    def brightness() -> float:
        parts = page.run("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)")
        return sum(parts) / 3

    def choose(theme: str) -> None:
        for _ in range(3):
            if page.run("document.querySelector('#theme span').textContent") == theme:
                return
            page.run("document.getElementById('theme').click()")
        assert page.run("document.querySelector('#theme span').textContent") == theme

    for dark in (False, True):
        page.open(report, dark=dark)
        assert (brightness() < 60) == dark
        assert (brightness() > 240) == (not dark)
        choose("light" if dark else "dark")
        assert (brightness() < 60) != dark
        page.open(report, dark=dark)
        assert (brightness() < 60) != dark  # the choice is kept
        choose("system")
        assert (brightness() < 60) == dark
    page.open(report, dark=True)
    assert page.run("all('.card').every((card) => getComputedStyle(card).backgroundColor === 'rgb(255, 255, 255)')")


LOW_CONTRAST = r"""(() => {
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


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_enough_contrast(report: Path, page: Page, dark: bool) -> None:
    open_all_pages(page, report, dark=dark)
    assert page.run(LOW_CONTRAST) == []


def test_printing_shows_every_page_whole_and_no_controls(report: Path, page: Page) -> None:
    page.open(report, dark=True)
    ids = page_ids(page)
    page.show("samples")
    while not page.run("all('.sample').length"):
        page.settle()
    page.show(ids[-1])
    assert page.run("sections.some(packed)")
    page.send("Page.printToPDF")
    assert not page.run("sections.some(packed)")
    page.send("Emulation.setEmulatedMedia", media="print")
    try:
        assert page.run(SHOWN) == ids
        for control in ("nav", "button:not(th *)", "input", "select", ".def", ".how"):
            assert page.run(f"all('{control}').filter((element) => element.checkVisibility()).length") == 0, control
        assert page.run("all('.scroll').every((box) => getComputedStyle(box).overflowY === 'visible')")
        assert page.run(LOW_CONTRAST) == []
    finally:
        page.send("Emulation.setEmulatedMedia", media="")
