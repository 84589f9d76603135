"""axe-core on every page of the report: light and dark, on a screen and on a phone."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from tests.browser.chromium import Page, page_ids

AXE = "axe-playwright-python"
# Folds are opened; of a table's rows, which are all made alike, the first few say enough. What was looked at goes.
VIOLATIONS = """(async () => {
  const page = document.querySelector(".page.current");
  for (const fold of page.querySelectorAll("details")) fold.open = true;
  for (const table of page.querySelectorAll("table.data")) while (table.tBodies[0].rows.length > 4) table.tBodies[0].rows[4].remove();
  const { violations, passes } = await axe.run(document, { resultTypes: ["violations", "passes"] });
  const told = violations.flatMap((rule) => rule.nodes.map((node) => `${rule.id} at ${node.target.join(" ")}: ${rule.help}`));
  page.replaceChildren(page.querySelector("h2"));
  return [passes.length, told];
})()"""


def axe() -> str:
    """The script of axe-core, from the package that carries it."""
    try:
        return Path(str(distribution(AXE).locate_file("axe_playwright_python/axe.min.js"))).read_text(encoding="utf-8")
    except PackageNotFoundError:
        pytest.fail(f"{AXE} is missing: pip install --no-deps --requirement envs/tests.lock")


@pytest.mark.parametrize(
    ("dark", "width"),
    # colours do not depend on the width, nor the layout on the colours
    [(False, 390), (False, 1280), (True, 1280), pytest.param(True, 390, marks=pytest.mark.slow)],
)
def test_axe_finds_no_violation_on_any_page(report: Path, page: Page, dark: bool, width: int) -> None:
    page.open(report, width=width, dark=dark)
    page.run(axe())
    found = {}
    for id in page_ids(page):
        page.show(id)
        rules, found[id] = page.run(VIOLATIONS)
        assert rules > 20  # it looked
    assert len(found) > 5
    assert {id: violations for id, violations in found.items() if violations} == {}
