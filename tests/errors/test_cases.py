"""Every mistake of `cases` ends in one line that names the value and the fix, and `docs/errors.md` quotes it."""

import shutil

import pytest

from tests.errors.case import AS_OTHERS, Case, outcome
from tests.errors.cases import CASES
from tests.errors.page import INTRODUCTION, row, said

ALL = [
    # those in a process of their own take seconds each
    pytest.param(case, id=f"{title}: {case.what}", marks=[pytest.mark.slow] * (case.is_workflow or case.as_others))
    for title, cases in CASES.items()
    for case in cases
]


@pytest.fixture(scope="module")
def page(repository) -> str:
    return (repository / "docs" / "errors.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("case", ALL)
def test_a_mistake_is_one_line(case: Case, page: str) -> None:
    if case.as_others and AS_OTHERS and not shutil.which(AS_OTHERS[0]):
        pytest.skip(f"{AS_OTHERS[0]} is missing, without which root may read and write everything")
    found = outcome(case)
    text = f"{found.message}\n{found.printed}"
    assert found.code == case.code, text
    assert "Traceback" not in text
    if case.code == 2 or case.is_workflow:
        assert found.message.startswith(f"{case.prefix}: "), found.message
        assert found.message.count("\n") == 1, found.message
    for fragment in case.says:
        assert fragment in said(case), said(case)
    assert row(case) in page.splitlines(), "run `python -m tests.errors.page > docs/errors.md`"


def test_the_page_holds_these_cases_and_no_others(page: str) -> None:
    assert page.startswith(INTRODUCTION)
    assert [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")] == list(CASES)
    rows = page.removeprefix(INTRODUCTION).count("\n| ") - 2 * len(CASES)
    assert rows == len(ALL) >= 60


def test_names_of_cases_are_different() -> None:
    for title, cases in CASES.items():
        assert len({case.what for case in cases}) == len(cases), title
