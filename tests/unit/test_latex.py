"""The table of a paper: balanced, escaped, as wide in every row as its head says, and with the report's numbers."""

import re
from dataclasses import replace

import pytest

from lofi.report.audit import Audit, read
from lofi.report.latex import agreement_table, escape
from lofi.report.words import interval, percent
from tests.unit.audits import audit_of, cell
from tests.unit.report_setup import HOSTILE, make_results

PLAIN = re.compile(r"\\[&%$#_{}\\]|\\[a-zA-Z]+")  # what may hold a mark without meaning it


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    results = make_results(
        tmp_path_factory.mktemp("latex"), models=("tiny_a", "tiny-b"), own=("prumerge",), stability=False
    )
    return read(results.root / "tables", results.sweep)


def tabulars(tex):
    """Of each tabular: how many columns it declares, and its rows of cells."""
    for columns, body in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", tex, re.S):
        lines = [line.strip() for line in body.splitlines() if line.strip().endswith(r"\\")]
        yield columns, [[each.strip() for each in re.split(r"(?<!\\)&", line.removesuffix(r"\\"))] for line in lines]


def balanced(tex):
    depth = 0
    for mark in re.sub(PLAIN, "", tex):
        depth += {"{": 1, "}": -1}.get(mark, 0)
        assert depth >= 0
    opened, closed = (re.findall(rf"\\{end}\{{([a-z*]+)\}}", tex) for end in ("begin", "end"))
    return depth == 0 and sorted(opened) == sorted(closed)


def test_what_latex_reads_as_a_command_is_escaped():
    assert escape('a_b & 5 % of $x^2$ {~} #1 \\input|<>"[]') == (
        r"a\_b \& 5 \% of \$x\textasciicircum{}2\$ \{\textasciitilde{}\} \#1 "
        r"\textbackslash{}input\textbar{}\textless{}\textgreater{}\textquotedbl{}{[}{]}"
    )
    assert balanced(escape(HOSTILE))
    assert escape("-0.1\N{NO-BREAK SPACE}%".replace("-", "\N{MINUS SIGN}")) == r"$-$0.1~\%"


def test_every_row_is_as_wide_as_its_table(audit):
    tex = agreement_table(audit)
    assert tex.startswith("% needs \\usepackage{booktabs}\n")
    assert balanced(tex)
    assert tex.count(r"\begin{table*}") == 2
    for columns, (heads, names, *rows) in tabulars(tex):
        assert columns == "l" + "rr" * 4 + "r"
        assert len(heads) == 6  # four of them span two columns
        assert heads[1:5] == [
            rf"\multicolumn{{2}}{{c}}{{{k}}}" for k in ("keep 0.5", "keep 0.25", "keep 16~tokens", "own count")
        ]
        assert len(names) == len(columns)
        assert [row[0] for row in rows] == ["random", "lofi", "fastv", "prumerge"]
        assert all(len(row) == len(columns) for row in rows)
    assert r"\caption{tiny\_a: answers" in tex


def test_the_numbers_are_the_reports(audit):
    one = replace(audit, cells=[row for row in audit.cells if row["model"] == "tiny-b"], models=("tiny-b",))
    (_, (_, _, *rows)) = next(tabulars(agreement_table(one)))
    for row in rows:
        for place, keep in enumerate(("0.5000", "0.2500", "16", "auto")):
            mean = one.overall.get((row[0], keep))
            if mean is None:
                assert row[1 + 2 * place : 3 + 2 * place] == ["--", "--"]
                continue
            bounds = escape(interval(mean["agreement_low"], mean["agreement_high"]))
            shares = [percent(mean[name])[:-2] for name in ("agreement", "relative_accuracy")]
            assert row[1 + 2 * place] == rf"{shares[0]} {{\scriptsize {bounds}}}"
            assert row[2 + 2 * place] == shares[1]


def test_a_mean_over_some_datasets_is_a_dash():
    found = audit_of(
        cell("lofi", dataset="d"),
        cell("lofi", dataset="e"),
        cell("fastv", dataset="d"),
        datasets=("d", "e"),
        floor=None,
    )
    ((_, (_, _, *rows)),) = tabulars(tex := agreement_table(found))
    assert [row[0] for row in rows] == ["lofi"]
    assert rows[0][-1] == "1~000"
    assert "The sweep has no noise floor." in tex
    ungraded = audit_of(cell("lofi", accuracy=None, half=None))
    ((_, (_, _, (name, agreement, kept, n))),) = tabulars(agreement_table(ungraded))
    assert (name, agreement, kept, n) == ("lofi", "90.0", "--", "500")


def test_many_keeps_go_on_in_another_table():
    cells = [cell("lofi", f"0.{digit}000", agreement=0.9) for digit in range(1, 10)]
    widths = [columns for columns, _ in tabulars(agreement_table(audit_of(*cells)))]
    assert widths == ["l" + "rr" * 4 + "r"] * 2 + ["lrrr"]


def test_a_sweep_without_methods_has_no_table():
    assert agreement_table(audit_of()).endswith("% no method ran beside full\n")
    assert isinstance(audit_of(), Audit)
