"""How a table becomes HTML: every number once, and few letters for each."""

import re

from lofi.report.render import body, shape
from lofi.report.tables import KEEP, METHOD, decimal, share, table, whole

COLUMNS = (METHOD, KEEP, share("kept", "agreement", "", bar=True), decimal("change", "change"), whole("n", "n"))


def rows_of(*rows):
    return body(table("t", "", COLUMNS, list(rows))).split("\n")


def row(method="lofi", keep="0.2500", agreement=0.9212345, low=0.9012345, high=0.9412345, change=-1.5, n=12345):
    bounds = {"agreement_low": low, "agreement_high": high}
    ratio = None if keep == "auto" else float(keep)
    return {
        "method": method, "keep": keep, "keep_ratio": ratio, "agreement": agreement, **bounds, "change": change, "n": n,
    }  # fmt: skip


def test_a_number_is_repeated_only_where_its_text_does_not_say_it():
    (text,) = rows_of(row())
    cells = text.removeprefix("<tr>").split("<td")[1:]
    assert cells == [
        ">lofi",
        ">0.25",
        ' data-v="0.921234,0.901235,0.941234" style="--v:92.1">92.1\xa0% [90.1,\xa094.1]',
        ">\N{MINUS SIGN}1.5",
        ">12\xa0345",
    ]


def test_what_is_undefined_has_no_value():
    with_bounds, without = rows_of(row(), row(agreement=None, low=None, high=None, change=None, keep="auto"))
    assert with_bounds.count("data-v") == 1
    assert without.split("<td")[1:] == [">lofi", ' data-v="">own count', ">–", ">–", ">12\xa0345"]


def test_baselines_are_marked_and_texts_escaped():
    full, hostile = rows_of(row(method="full"), row(method="<b>\" data-v='9"))
    assert full.startswith("<tr class=marked>")
    assert "<td>&lt;b&gt;&#34; data-v=&#39;9<td" in hostile


def test_the_columns_of_numbers_are_named_once():
    assert shape(table("t", "", COLUMNS, [])) == "n2 n3 n4 n5"


def test_a_large_table_has_few_letters_for_a_cell():
    rows = [row(keep=f"{1 / (2 + i % 7):.4f}", agreement=0.5 + i / 5000, n=1000 + i) for i in range(2000)]
    made = table("t", "", COLUMNS, rows)
    text = body(made)
    assert text.count("<td") == 10_000
    assert len(text.encode()) / 10_000 < 40
    assert len(re.findall(r"data-v", text)) < 6000
