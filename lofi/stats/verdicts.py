"""Verdicts of the gate as text for people, as JSON and as JUnit XML."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from xml.etree import ElementTree

from lofi.stats.gate import Verdict
from lofi.stats.query import as_table


def as_lines(verdicts: Sequence[Verdict], *, confident: bool) -> str:
    """A table of what failed, and how much was checked."""
    failed = [each for each in verdicts if not each.passed]
    cells = len({(each.model, each.dataset, each.method, each.keep, each.seed) for each in verdicts})
    judged = "the bounds" if confident else "the values"
    summary = f"{len(failed)} of {len(verdicts)} checks failed, on {judged} of {cells} cells against full\n"
    if not failed:
        return summary
    names = ["model", "dataset", "method", "keep", "seed", "rule", "value", "limit", "bound", "n", "errors"]
    rows = [
        (
            *(each.model, each.dataset, each.method, each.keep, each.seed),
            *(each.rule, each.value, each.limit, each.bound, each.n, each.n_errors),
        )
        for each in failed
    ]
    return f"{as_table(names, rows)}\n{summary}"


def as_json(verdicts: Sequence[Verdict], *, confident: bool) -> str:
    """All verdicts, and whether all passed."""
    found = {
        "reference": "full",
        "judged": "bound" if confident else "value",
        "passed": all(each.passed for each in verdicts),
        "checks": [asdict(each) for each in verdicts],
    }
    return json.dumps(found, indent=1) + "\n"


def as_junit(verdicts: Sequence[Verdict]) -> str:
    """One suite for each (model, dataset), one case for each cell and rule."""
    root = ElementTree.Element("testsuites", {"name": "lofi check", **_counts(verdicts)})
    for (model, dataset), mine in groupby(verdicts, key=lambda each: (each.model, each.dataset)):
        cases = list(mine)
        suite = ElementTree.SubElement(root, "testsuite", {"name": f"{model} / {dataset}", **_counts(cases)})
        for each in cases:
            case = ElementTree.SubElement(
                suite,
                "testcase",
                {
                    "classname": f"{model}.{dataset}.{each.method}",
                    "name": f"keep {each.keep} seed {each.seed}: {each.rule}",
                },
            )
            if not each.passed:
                ElementTree.SubElement(case, "failure", {"type": each.rule, "message": _sentence(each)})
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _counts(verdicts: Sequence[Verdict]) -> dict[str, str]:
    failed = sum(not each.passed for each in verdicts)
    return {"tests": str(len(verdicts)), "failures": str(failed), "errors": "0", "skipped": "0"}


def _sentence(each: Verdict) -> str:
    if each.value is None or each.bound is None:
        return f"{each.rule} is not known: none of {each.n} samples has a grade"
    errors = f", {each.n_errors} of them errors" if each.n_errors else ""
    return f"{each.rule} {each.value:.6g}, limit {each.limit:g}, bound {each.bound:.6g}, {each.n} samples{errors}"
