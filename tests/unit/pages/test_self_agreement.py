"""Self-agreement: who keeps its own choice under rounded or noised features, in words, in a figure and in a table."""

from dataclasses import replace

import pytest

from lofi.report.audit import read
from lofi.report.drawing import Figure
from lofi.report.page import Finding
from lofi.report.pages import self_agreement
from lofi.report.tables import Table
from tests.unit.report_setup import make_results


def row(method, overlap, variant="bfloat16", **more):
    known = {"model": "m", "dataset": "d", "keep": "0.2500", "n_images": 32, "n_errors": 0}
    bounds = {} if overlap is None else {"overlap_low": overlap - 0.01, "overlap_high": min(1.0, overlap + 0.01)}
    measured = {"overlap": overlap, "overlap_low": None, "overlap_high": None, "identical": overlap, "worst": overlap}
    return {**known, "method": method, "variant": variant, **measured, **bounds, **more}


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    made = make_results(tmp_path_factory.mktemp("results"), keeps=("0.2500", "16"), images=3)
    return read(made.root / "tables", made.sweep)


@pytest.fixture(scope="module")
def empty_audit(audit):
    return replace(audit, stability=[])


def lead(audit, *rows):
    found = self_agreement.lead(self_agreement.method_rows(replace(audit, stability=list(rows))))
    return found.headline.replace("\xa0", " "), found.detail.replace("\xa0", " ")


@pytest.mark.parametrize(
    ("rows", "headline"),
    [
        (
            [row("a", 0.9), row("b", 0.985), row("c", 0.5)],
            "At the worst, c keeps only 50.0 % of its tokens when features are rounded to bfloat16; "
            "1 of 3 methods keeps at least 98 %.",
        ),
        ([row("a", 0.99), row("b", 1.0)], "Every method keeps at least 98 % of its tokens when features are rounded"),
        ([row("a", 0.99), row("b", 1.0)], "the least is a with 99.0 %."),
        ([row("a", 1.0), row("b", 1.0)], "Rounding features to bfloat16 changes no token that is kept"),
        ([row("a", None, n_errors=3)], "Self-agreement is undefined."),
    ],
)
def test_the_lead_fits_the_data(empty_audit, rows, headline):
    assert headline in lead(empty_audit, *rows)[0]


def test_the_lead_names_who_cannot_bear_noise(empty_audit):
    calm = [row("a", 1.0), row("a", 0.999, "noise")]
    assert (
        lead(empty_audit, *calm)[1] == "Under a relative noise of 1e-6 every method keeps at least 98 % of its tokens."
    )
    assert "make b (60.0 %) keep less than 98 % of its tokens" in lead(empty_audit, *calm, row("b", 0.6, "noise"))[1]
    many = [row(f"m{i}", 0.5 + i / 100, "noise") for i in range(7)]
    assert "m3 (53.0 %), m4 (54.0 %) and 2 more keep less" in lead(empty_audit, *calm, *many)[1]
    assert lead(empty_audit, row("a", 1.0))[1] == "Under noise no method could be compared."


def test_methods_stand_worst_first_and_undefined_last(empty_audit):
    rows = [row("a", 0.99), row("b", None, n_errors=9), row("c", 0.5), row("d", 0.99), row("d", 0.4, "float16")]
    found = self_agreement.method_rows(replace(empty_audit, stability=rows))
    assert [each["method"] for each in found] == ["c", "d", "a", "b"]


def test_a_row_is_the_mean_over_keeps_models_and_datasets(empty_audit):
    rows = [
        row("a", overlap, keep=keep, model=model, dataset=dataset, n_images=images)
        for keep, overlap in (("0.5000", 1.0), ("auto", 0.8))
        for model in ("m", "n")
        for dataset, images in (("d", 32), ("e", 20))
    ]
    (found,) = self_agreement.method_rows(replace(empty_audit, stability=[*rows, row("a", 0.95, "noise", worst=0.1)]))
    assert found["bfloat16"] == pytest.approx(0.9)
    assert found["bfloat16_low"] == pytest.approx(0.9 - 0.01 / 2**0.5)  # images of two datasets
    assert (found["n_images"], found["worst"], found["float16"]) == (52, 0.1, None)
    (page,) = self_agreement.pages(replace(empty_audit, stability=rows))
    table = next(block for block in page.blocks if isinstance(block, Table))
    texts = [entry.text.replace("\xa0", " ") for entry in table.rows[0]]
    assert "80.0 % (bfloat16, own count)" in texts


def test_a_page_of_real_tables(audit):
    (page,) = self_agreement.pages(audit)
    finding, figure, _, table = page.blocks
    assert isinstance(finding, Finding)
    assert isinstance(figure, Figure)
    assert isinstance(table, Table)
    assert "keeps only" in finding.headline
    assert [row["method"] for row in figure.rows] == [row[0].text for row in table.rows]
    assert {block.how.query for block in (finding, figure, table)} == {self_agreement.QUERY}
    assert len(audit.select(self_agreement.QUERY)) == len(audit.stability)


def test_a_sweep_without_it_says_how_to_get_it(empty_audit):
    (page,) = self_agreement.pages(empty_audit)
    assert "stability_images" in str(page.blocks[0].html)
