"""The page of certificates: it shows what `lofi certify` finds, and says why where there is nothing."""

import json
from dataclasses import asdict, replace

import pytest

from lofi.cell import FULL, KEEP_ALL, Cell
from lofi.cli import main
from lofi.report.audit import read
from lofi.report.bounds import BOUNDS
from lofi.report.drawing import Figure
from lofi.report.page import Finding, Fold, Prose, walk
from lofi.report.pages.certification import CERTIFICATES, pages, why
from lofi.stats import certificates
from lofi.stats.aggregate import aggregate
from lofi.tables import Tables
from tests.unit.pages.reading import tables
from tests.unit.report_setup import make_results
from tests.unit.synthetic import make_sweep, write_sweep

ANSWER = ("prediction", "prediction_parsed", "score", "correct", "status", "error", "scorer", "scorer_version")
SWEEP = {"models": {"tiny-a": {}}, "methods": {"random": {}, "lofi": {}}}


def spaced(text):
    return text.replace("\xa0", " ")


def made(root, sweep):
    aggregate(write_sweep(sweep, root, shards=1), root / "tables", root / "audit.duckdb", threads=1)
    return root


def audit_of(root):
    return read(root / "tables", SWEEP)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """One method that does what full does at its milder keep, one that does not; one without grades."""
    sweep = make_sweep(
        models=("tiny-a",),
        datasets=("scenes-yesno", "scenes-letters"),
        methods={"lofi": (0,), "random": (0, 1)},
        keeps=("0.5000", "0.2500"),
        images=200,
        questions=1,
    )
    failed = {row["sample_id"] for rows in sweep.values() for row in rows if row["status"] != "ok"}
    sweep = {cell: [row for row in rows if row["sample_id"] not in failed] for cell, rows in sweep.items()}
    full = {row["sample_id"]: row for row in sweep[Cell("tiny-a", "scenes-yesno", FULL, KEEP_ALL)]}
    for row in sweep[Cell("tiny-a", "scenes-yesno", "lofi", "0.5000")]:
        row |= {name: full[row["sample_id"]].get(name) for name in ANSWER}
    for row in sweep[Cell("tiny-a", "scenes-letters", "lofi", "0.5000")]:
        row |= {"correct": None, "score": None}
    return made(tmp_path_factory.mktemp("mixed"), sweep)


@pytest.fixture(scope="module")
def page(mixed):
    (page,) = pages(audit_of(mixed))
    return page


def column(found, label):
    (place,) = [i for i, column in enumerate(found.columns) if column.label == label]
    return [row[place].text for row in found.rows]


@pytest.mark.parametrize(("risk", "limit"), certificates.LIMITS.items())
def test_the_page_the_table_and_the_command_say_the_same(mixed, page, risk, limit, capsys):
    found = certificates.certify(certificates.read(mixed / "tables"), risk, limit, 0.95)
    option = {"negative_flip": "--max-negative-flips", "divergence": "--max-divergence"}[risk]
    arguments = ["certify", "--results", str(mixed), option, f"{limit:g}", "--confidence", "0.95", "--format", "json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out) == [asdict(each) for each in found]
    shown = tables(page)[f"certificates-{risk.replace('_', '-')}"]
    with Tables(mixed / "tables") as opened:
        assert opened.rows(shown.how.query) == [asdict(each) for each in found]
    keeps = {(each.dataset, each.method): each.keep for each in found}
    places = zip(column(shown, "dataset"), column(shown, "method"), strict=True)
    expected = [f"{float(keep):g}" if (keep := keeps[place]) else "none" for place in places]
    assert column(shown, "smallest certified keep") == expected
    assert len(shown.rows) == len(found) == 4
    commands = " ".join(str(block.html) for block in page.blocks if isinstance(block, Prose))
    assert "<code>lofi certify --max-negative-flips 0.02 --confidence 0.95</code>" in commands


def test_the_finding_counts_what_is_certified_and_why_the_rest_is_not(page):
    finding = page.blocks[0]
    assert isinstance(finding, Finding)
    assert spaced(finding.headline) == (
        "1 of 4 combinations of model, dataset and method has a keep that is shown to turn at most 2 % of the answers "
        "from right to wrong."
    )
    text = spaced(finding.detail)
    assert "The smallest one is keep 0.5 in 1." in text
    assert "up to 0.2 wrong certificates have to be expected" in text
    assert "in 2 the mildest keep goes wrong as often as the limit or more and in 1 no answer has a grade" in text
    assert "answers about" in text


def test_every_keep_stands_where_its_test_left_it(mixed, page):
    found = {
        (each.dataset, each.method): each
        for each in certificates.certify(certificates.read(mixed / "tables"), "negative_flip", 0.02, 0.95)
    }
    with Tables(mixed / "tables") as opened:
        rows = opened.rows(BOUNDS.format(risk="negative_flip"))
    assert len(rows) == 8
    for (dataset, method), each in found.items():
        here = [row for row in rows if (row["dataset"], row["method"]) == (dataset, method)]
        outcomes = {row["keep"]: row["outcome"] for row in here}
        within = [row for row in here if row["outcome"] == "within the limit"]
        assert (within[-1]["keep"] if within else None) == each.keep
        assert [keep for keep, outcome in outcomes.items() if outcome == "testing stopped here"] == [each.stopped_keep]
        if within:
            assert (within[-1]["rate"], within[-1]["upper"]) == (each.rate, each.upper)
    shown = tables(page)["bounds-negative-flip"]
    assert column(shown, "outcome").count("not tested") == 3
    assert column(shown, "upper bound").count("–") == 1  # no grades


def test_the_figure_has_what_it_draws(page):
    (figure,) = [block for block in walk(page.blocks) if isinstance(block, Figure)]
    assert len(figure.rows) == 7
    assert spaced(figure.title).startswith("In 1 of 7 combinations of model, dataset, method and keep, at most 2 %")
    assert figure.how.query == BOUNDS.format(risk="negative_flip")
    assert figure.svg.count("<text") > 10


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"stopped_keep": None}, "the sweep has no smaller keep"),
        ({"reason": "grades"}, "no answer at keep 0.25 has a grade"),
        ({"reason": "rate"}, "keep 0.25 has 3.00 %, the limit or more"),
        (
            {"reason": "rate", "stopped_errors": 2},
            "keep 0.25 has 3.00 %, failed samples among them: 2, the limit or more",
        ),
        ({"reason": "images"}, "keep 0.25 has 3.00 %, shown to be at most 4.00 %; at this rate 900 images would do"),
        (
            {"reason": "images", "images_needed": None},
            "keep 0.25 has 3.00 %, shown to be at most 4.00 %; at this rate no number of images would do",
        ),
    ],
)
def test_why_a_keep_is_not_smaller(row, said):
    base = {
        "stopped_keep": "0.2500", "stopped_rate": 0.03, "stopped_upper": 0.04, "stopped_errors": 0,
        "images_needed": 900, "reason": None,
    }  # fmt: skip
    assert spaced(why({**base, **row})) == said


def test_without_any_certificate_the_page_says_what_is_missing(tmp_path):
    results = make_results(tmp_path)
    (page,) = pages(read(results.root / "tables", results.sweep))
    assert spaced(page.blocks[0].headline) == (
        "No method is shown to turn at most 2 % of the answers from right to wrong, at any keep."
    )
    assert "wrong certificates" not in page.blocks[0].detail
    assert "Of 6 combinations of model, dataset and method, in" in spaced(page.blocks[0].detail)
    assert next(block.summary for block in page.blocks if isinstance(block, Fold)).startswith(
        "Limits on changed answers"
    )


def test_nothing_to_certify_and_older_tables(tmp_path):
    bare = make_sweep(models=("tiny-a",), datasets=("scenes-yesno",), methods={}, images=4)
    audit = audit_of(made(tmp_path, bare))
    (page,) = pages(audit)
    assert [type(block) for block in page.blocks] == [Finding]
    assert page.blocks[0].headline == "There is nothing to certify."
    for name in ("risks", "certificates"):
        (tmp_path / "tables" / f"{name}.parquet").unlink()
    (page,) = pages(replace(audit, source=Tables(tmp_path / "tables")))
    assert page.blocks[0] == Finding("The tables hold no certificates.", "Make them again with: lofi aggregate")


def test_no_grades_at_all(tmp_path):
    sweep = make_sweep(models=("tiny-a",), datasets=("scenes-open",), methods={"lofi": (0,)}, images=4)
    for row in (row for rows in sweep.values() for row in rows):
        row |= {"correct": None, "score": None}
    (page,) = pages(audit_of(made(tmp_path, sweep)))
    assert "in 1 no answer has a grade" in spaced(page.blocks[0].detail)
    assert not [block for block in page.blocks if isinstance(block, Figure)]
    assert column(tables(page)["bounds-divergence"], "upper bound").count("–") == 0


def test_queries_name_their_risk():
    assert all("{" not in sql.format("divergence", risk="divergence") for sql in (CERTIFICATES, BOUNDS))
