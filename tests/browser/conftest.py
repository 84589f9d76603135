"""What the browser tests share: one report and one browser for each test process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import Page
from tests.conftest import require
from tests.unit.report_setup import make_results


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a made-up sweep of two models."""
    require("chromium", "apt-get install chromium")
    output = tmp_path_factory.mktemp("report") / "index.html"
    make_results(tmp_path_factory.mktemp("results"), models=("tiny-a", "tiny-b")).build(output, generated="2026-01-02")
    return output


@pytest.fixture(scope="session")
def page(report: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with Page(tmp_path_factory.mktemp("profile")) as page:
        yield page
