"""`lofi figures`: every figure of the report as files, the same bytes each time, letters and numbers with them."""

import csv
import re
import xml.etree.ElementTree as ElementTree

import pytest

from lofi import cli
from lofi.errors import UserError
from lofi.report import paper
from lofi.report.audit import read
from lofi.report.drawing import canvas, finish
from lofi.report.pages import certification, cost
from lofi.report.paper import TABLE, as_csv, figures, write
from tests.unit.report_setup import make_results

CONFIG = """\
models: {digits-llava: {source: "embedded:digits-llava"}}
datasets: {digits-pope: {}}
methods: {random: {seeds: [0, 1]}, lofi: {}}
keeps: [0.5, 0.25]
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("paper"), datasets=("scenes-letters",), keeps=("0.5000", "16"))


@pytest.fixture(scope="module")
def few():
    """Two pages are enough to see what becomes of a figure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paper, "PAGES", (certification.pages, cost.pages))
        yield


@pytest.fixture(scope="module")
def written(results, few, tmp_path_factory):
    return {path.name: path for path in made(results, tmp_path_factory.mktemp("figures"))}


def made(results, folder, *only):
    return list(write(results.sweep, results.files, results.root / "tables", folder, only))


def test_every_figure_of_the_report_has_a_name_of_its_own_and_numbers(results):
    found = figures(read(results.root / "tables", results.sweep))
    names = [figure.id for figure in found]
    assert {"fig-answer", "fig-certification", "fig-cost"} <= set(names)
    assert len(set(names)) == len(names) > 10
    assert [name for figure, name in zip(found, names, strict=True) if not figure.rows] == []
    assert TABLE not in names


def test_every_figure_is_written_with_its_numbers(results, written):
    found = figures(read(results.root / "tables", results.sweep))
    expected = [f"{figure.id}.{form}" for figure in found for form in ("svg", "pdf", "csv")]
    assert list(written) == [*expected, f"{TABLE}.tex"]
    assert len(expected) == 6
    for figure in found:
        with written[f"{figure.id}.csv"].open(newline="", encoding="utf-8") as file:
            assert len(list(csv.DictReader(file))) == len(figure.rows)


def test_drawings_carry_their_letters_and_no_date(written):
    for name, path in written.items():
        content = path.read_bytes()
        if name.endswith(".pdf"):
            assert content.startswith(b"%PDF-")
            assert b"/FontFile2" in content  # TrueType, embedded
            assert b"/Type3" not in content
            assert b"CreationDate" not in content
        if name.endswith(".svg"):
            root = ElementTree.fromstring(content)
            assert root.tag.endswith("}svg")
            assert not [each for each in root.iter() if each.tag.endswith("}text")]  # outlines
            assert b"<dc:date>" not in content


def test_the_same_tables_give_the_same_bytes(results, written, tmp_path):
    again = made(results, tmp_path, TABLE, "fig-cost")
    assert [path.name for path in again] == ["fig-cost.svg", "fig-cost.pdf", "fig-cost.csv", "agreement.tex"]
    assert sorted(tmp_path.iterdir()) == sorted(again)
    for path in again:
        assert path.read_bytes() == written[path.name].read_bytes()


def test_a_wrong_name_is_answered_with_the_right_ones(results, tmp_path):
    with pytest.raises(
        UserError, match=r"unknown figure 'fig-costs': did you mean 'fig-cost'\? choose from agreement, "
    ):
        made(results, tmp_path, "fig-costs")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written(results, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match=r"taken/agreement.tex cannot be written \(.*\); give another --output"):
        made(results, tmp_path / "taken", TABLE)


def test_rows_of_unequal_columns_in_one_file():
    figure, _ = canvas(1, 1, 2.0)
    rows = [{"method": "a, b", "x": 0.1}, {"method": "c", "y": None}]
    assert as_csv(finish(figure, "fig", "", "", None, rows)) == 'method,x,y\n"a, b",0.1,\nc,,\n'


def test_the_command_refuses_a_sweep_that_lacks_cells(results, tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    arguments = ["figures", "--config", str(config), "--results", str(results.root), "--output", str(tmp_path / "out")]
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert re.match(r"lofi figures: 8 of 8 cells are missing: ", said.err)
    assert said.out == ""
    assert not (tmp_path / "out").exists()
