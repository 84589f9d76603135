"""Text of models and datasets that looks like markup, in a real browser: it is read, and never runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.browser.chromium import Page, open_all_pages, page_ids
from tests.browser.scaled import repeat
from tests.conftest import require
from tests.unit.report_setup import HOSTILE, make_results

# As names: in attributes, ids, addresses, scripts, drawings and formulas of matplotlib.
MODEL = r"""m"><script>pwned=1</script>$\frac{$"""
DATASET = """d' onload='pwned=1'><b class=pwned>%s"""
METHOD = """f <img src=q onerror=pwned=1> {{7*7}}"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report in which questions, answers, categories, models, datasets and a method have such texts."""
    require("chromium", "apt-get install chromium")
    root = tmp_path_factory.mktemp("hostile")
    made = make_results(root / "small", hostile=True)
    named = {
        "model": {"tiny-a": [MODEL]},
        "dataset": {"scenes-letters": [DATASET], "scenes-yesno": [f"{DATASET} 2"]},
        "method": {"fastv": [METHOD]},
    }
    files = repeat(made.root, root / "large", named)
    output = root / "report" / "index.html"
    allowed = {name for names in named["dataset"].values() for name in names}
    replace(made, root=root / "large", files=files).build(output, thumbnails=allowed)
    return output


def test_no_text_becomes_markup_or_runs(hostile: Path, page: Page) -> None:
    page.open(hostile)
    for id in page_ids(page):
        page.show(id)
        page.run("all('details').forEach((fold) => { fold.open = fold.checkVisibility(); })")
    page.run("new Promise((done) => setTimeout(done, 300))")
    assert page.run("typeof pwned") == "undefined"
    assert page.run("all('.pwned, b, img[src*=\"example.org\"], [src=q]').length") == 0
    assert page.run("all('*').filter((e) => Array.from(e.attributes).some((a) => a.name.startsWith('on'))).length") == 0
    kinds = page.run("all('script').map((script) => script.src ? 'beside' : script.type)")
    assert set(kinds) <= {"", "application/json", "beside"}
    assert kinds.count("") == 3
    here = hostile.resolve().parent.as_uri()
    assert [url for url in page.requests() if not url.startswith(here)] == []
    assert page.complaints() == []
    assert not any(event["method"] == "Page.javascriptDialogOpening" for event in page.events)


def test_the_text_is_read_as_it_is(hostile: Path, page: Page) -> None:
    open_all_pages(page, hostile)
    page.run("new Promise((done) => setTimeout(done, 300))")
    texts = page.run("document.body.textContent")
    for text in (HOSTILE, MODEL, DATASET, METHOD):
        assert text in texts
    assert "49" not in page.run("document.title")
    for id in page_ids(page):
        page.show(id)
        assert page.run("all('.page').filter((section) => section.checkVisibility()).length") == 1
