import re
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lofi.report import matrix, ranks
from lofi.report.audit import Audit, read
from lofi.report.drawing import Figure
from lofi.report.page import Finding, Fold, walk
from lofi.report.pages.methods import pages
from lofi.report.sources import text
from lofi.report.tables import Table
from lofi.stats.query import query
from tests.unit.pages.reading import blocks_of, cells_of, edited
from tests.unit.report_setup import METHODS, make_results

MINUS = "−"


def open_audit(folder: Path, **options) -> Audit:
    made = make_results(folder, stability=False, **options)
    return read(made.root / "tables", made.sweep)


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    return open_audit(
        folder, models=("tiny-a", "tiny-b"), methods={**METHODS, "dart": (0,)}, keeps=("0.5000", "0.2500")
    )


@pytest.fixture(scope="module")
def blocks(audit):
    (page,) = pages(audit)
    assert page.id == "methods"
    return list(walk(page.blocks))


def test_the_finding_counts_the_differences_beyond_chance_of_the_tables(audit, blocks):
    rows = audit.select(
        "SELECT basis, count(p_holm) AS tested, count_if(p_holm < 0.05) AS beyond FROM comparisons "
        "WHERE keep = '0.2500' AND versus <> 'full' AND method < versus GROUP BY basis ORDER BY basis"
    )
    agreement, accuracy = rows
    assert agreement["tested"] == 4 * 3 // 2 * 4  # pairs of methods, on two models and two datasets
    finding = next(block for block in blocks if isinstance(block, Finding))
    said = finding.headline.replace("\xa0", " ")
    assert f"At keep 0.25, {agreement['beyond']} of {agreement['tested']} differences in agreement" in said
    assert f"In accuracy it is {accuracy['beyond']} of {accuracy['tested']};" in finding.detail


def test_every_number_of_the_matrix_is_the_mean_of_its_comparisons(audit):
    found = matrix.matrix(audit, "0.2500", "agreement")
    assert found.methods == audit.methods
    assert len(found.at) == 4 * 3
    for (method, versus), row in found.at.items():
        rows = audit.select(
            f"SELECT difference, p_holm, n FROM comparisons WHERE method = '{method}' AND versus = '{versus}' "
            "AND keep = '0.2500' AND basis = 'agreement'"
        )
        assert row["difference"] == pytest.approx(sum(r["difference"] for r in rows) / 4)
        assert row["n"] == sum(r["n"] for r in rows)
        assert row["more"] == sum(r["p_holm"] < 0.05 and r["difference"] > 0 for r in rows)
        assert row["difference_low"] < row["difference"] < row["difference_high"]
        mirrored = found.at[versus, method]
        assert mirrored["difference"] == pytest.approx(-row["difference"])
        assert mirrored["difference_low"] == pytest.approx(-row["difference_high"])
        assert (mirrored["more"], mirrored["fewer"]) == (row["fewer"], row["more"])


def test_bounds_of_datasets_combine_in_quadrature_and_those_of_models_are_averaged(audit):
    row = matrix.matrix(audit, "0.2500", "agreement").at["lofi", "random"]
    rows = audit.select(
        "SELECT dataset, avg(difference) AS d, avg(low) AS low FROM comparisons WHERE method = 'lofi' AND versus = "
        "'random' AND keep = '0.2500' AND basis = 'agreement' GROUP BY dataset"
    )
    half = sum((r["d"] - r["low"]) ** 2 for r in rows) ** 0.5 / 2
    assert row["difference"] - row["difference_low"] == pytest.approx(half)


def difference(value, more=0, fewer=0, pairs=1):
    ends = {"difference_low": None, "difference_high": None}
    return {"difference": value, "more": more, "fewer": fewer, "pairs": pairs, "tested": pairs, "n": 10, **ends}


def small_matrix(audit, *rows, methods=("random", "lofi")):
    return matrix.Matrix("agreement", "0.2500", methods, dict(rows))


def numbers(figure: Figure) -> dict[str, str]:
    """Every text on the drawing -> its weight."""
    (axes,) = figure.canvas.axes
    return {text.get_text(): str(text.get_fontweight()) for text in axes.texts}


def test_sign_size_and_certainty_of_a_difference_are_read_without_colour(audit):
    forth, back = ("lofi", "random"), ("random", "lofi")
    for more, pairs, texts in (
        (2, 2, {"+12.0": "bold", f"{MINUS}12.0": "bold"}),
        (1, 2, {"+12.0": "normal", f"{MINUS}12.0": "normal"}),
        (0, 2, {"(+12.0)": "normal", f"({MINUS}12.0)": "normal"}),
    ):
        made = small_matrix(audit, (forth, difference(0.12, more, 0, pairs)), (back, difference(-0.12, 0, more, pairs)))
        assert numbers(matrix.drawing(audit, made, "f")) == texts


def test_a_difference_beyond_chance_both_ways_is_not_bold(audit):
    made = small_matrix(audit, (("lofi", "random"), difference(0.01, 1, 1, 2)))
    assert numbers(matrix.drawing(audit, made, "f")) == {"+1.0": "normal"}
    assert matrix.always(difference(0.01, 1, 1, 2)) == 0
    assert matrix.always(difference(None, 0, 0, 0)) == 0


@pytest.mark.parametrize(
    ("wins", "said"),
    [
        ((), "no method keeps more answers than another beyond chance"),
        ((("lofi", "random"),), "lofi keeps more answers than 1 of 2 others"),
        ((("lofi", "random"), ("fastv", "random")), "lofi and fastv each keep more answers than 1 of 2 others"),
    ],
)
def test_the_title_says_who_wins(audit, wins, said):
    made = small_matrix(audit, *((key, difference(0.2, 4, 0, 4)) for key in wins), methods=("random", "lofi", "fastv"))
    title = matrix.drawing(audit, made, "f").title
    assert said in title.replace("\xa0", " ")


def test_forty_methods_stay_readable(audit):
    names = tuple(f"method-{i:02d}" for i in range(40))
    keys = [(a, b) for a in names for b in names if a != b]
    rows = {key: difference((hash_of(key) - 50) / 100, int(hash_of(key) > 60), int(hash_of(key) < 40)) for key in keys}
    figure = matrix.drawing(audit, matrix.Matrix("agreement", "0.2500", names, rows), "wide")
    texts = figure.canvas.axes[0].texts
    assert 0 < len(texts) < len(keys)  # what is never beyond chance has a colour only
    assert all(re.fullmatch(rf"[+{MINUS}]?\d+", text.get_text()) for text in texts)
    assert min(text.get_fontsize() for text in texts) >= 4
    renderer = FigureCanvasAgg(figure.canvas).get_renderer()
    figure.canvas.draw(renderer)
    column = figure.canvas.axes[0].get_window_extent().width / 40
    assert max(text.get_window_extent(renderer).width for text in texts) <= column
    assert len(figure.svg) < 600_000


def hash_of(key):
    return (sum(map(ord, key[0])) * 7 + sum(map(ord, key[1])) * 13) % 101


def test_pairs_are_listed_once_the_one_that_keeps_more_first(audit, blocks):
    rows = cells_of(blocks_of(blocks, Table)["methods-pairs"])
    assert len(rows) == 6
    assert len({frozenset((row["method"], row["less"])) for row in rows}) == 6
    assert all(not row["agreement (points)"].startswith(MINUS) for row in rows)
    first = rows[0]
    at = matrix.matrix(audit, "0.2500", "agreement").at[first["method"], first["less"]]
    assert first["agreement (points)"].startswith(f"{100 * at['difference']:+.1f} [")
    assert (first["more in"], first["models and datasets"], first["n"]) == (str(at["more"]), "4", str(at["n"]))


def test_the_order_of_methods_is_that_of_the_ranks(audit, blocks):
    rows = cells_of(blocks_of(blocks, Table)["ranks"])
    assert len(rows) == 4 * 4
    stored = audit.select("SELECT * FROM ranks WHERE keep = '0.2500' AND model = 'tiny-b' AND rank = 1")
    shown = [row for row in rows if row["model"] == "tiny-b" and row["place"].startswith("1 ")]
    assert {(row["dataset"], row["method"]) for row in shown} == {(row["dataset"], row["method"]) for row in stored}
    (order,) = [
        row for row in cells_of(blocks_of(blocks, Table)["order"]) if (row["model"], row["keep"]) == ("tiny-a", "0.25")
    ]
    (w,) = audit.select("SELECT DISTINCT kendall_w AS w FROM ranks WHERE keep = '0.2500' AND model = 'tiny-a'")
    assert order["Kendall's W"] == f"{w['w']:.2f}"
    finding = [block for block in blocks if isinstance(block, Finding)][1]
    assert "the order of the methods changes in" in finding.headline
    assert f"{w['w']:.2f} on tiny-a" in finding.detail


def test_figures_and_tables_say_how_and_their_queries_run(audit, blocks):
    shown = [block for block in blocks if isinstance(block, Figure | Table)]
    assert len(shown) == 10
    for block in shown:
        assert block.how is not None
        assert block.how.n
        assert query(block.how.query, audit.source.folder, "csv").count("\n") > 1
        assert all(text(name) for name in block.how.made_by)
    for figure in blocks_of(blocks, Figure).values():
        assert figure.rows
        assert figure.title.endswith(".")
        assert len(figure.svg) < 100_000


def test_other_keeps_and_accuracy_are_in_folds(blocks):
    folds = [block.summary for block in blocks if isinstance(block, Fold)]
    assert any("right answers" in summary for summary in folds)
    assert any("keep 0.5" in summary for summary in folds)


def test_a_sweep_of_one_method_says_that_nothing_can_be_compared(audit, tmp_path):
    one = edited(audit, tmp_path, comparisons="FROM comparisons WHERE versus = 'full'", ranks="FROM ranks WHERE false")
    (page,) = pages(one)
    finding, *rest = walk(page.blocks)
    assert "none can be held against another" in finding.headline
    assert [block.id for block in rest if isinstance(block, Figure)] == []
    assert [block.id for block in rest if isinstance(block, Table)] == ["methods-full", "methods-means"]


def test_own_counts_alone_cannot_be_compared(tmp_path):
    (page,) = pages(open_audit(tmp_path, methods={}, keeps=(), own=("prumerge", "dart"), datasets=("scenes-yesno",)))
    assert "none can be held against another" in page.blocks[0].headline


def test_one_dataset_has_no_concordance_and_says_so(audit, tmp_path):
    here = "WHERE dataset = 'scenes-yesno'"
    ranks_alone = f"SELECT * REPLACE (NULL::DOUBLE AS mean_rank, NULL::DOUBLE AS kendall_w) FROM ranks {here}"
    (page,) = pages(edited(audit, tmp_path, comparisons=f"FROM comparisons {here}", ranks=ranks_alone))
    _, order = [block for block in walk(page.blocks) if isinstance(block, Finding)]
    assert "Whether datasets order the methods alike is unknown" in order.detail
    (row, *_) = cells_of(blocks_of(page.blocks, Table)["order"])
    assert row["Kendall's W"] == "–"


def test_without_grades_right_answers_are_not_compared(audit, tmp_path):
    names = ("difference", "low", "high", "p", "p_holm", "p_bh")
    blank = ", ".join(f"if(basis = 'correct', NULL, {name}) AS {name}" for name in names)
    ungraded = edited(audit, tmp_path, comparisons=f"SELECT * REPLACE ({blank}) FROM comparisons")
    (page,) = pages(ungraded)
    blocks = list(walk(page.blocks))
    assert "No answer was graded" in blocks[0].detail
    assert "fig-methods-accuracy" not in blocks_of(blocks, Figure)
    assert "methods-full" not in blocks_of(blocks, Table)
    assert cells_of(blocks_of(blocks, Table)["methods-pairs"])[0]["accuracy (points)"] == "–"


def test_methods_at_another_share_of_work_are_named(audit):
    cells = [{**c, "layer_mean_tokens": 100.0} if c["method"] == "fastv" else c for c in audit.cells]
    (page,) = pages(replace(audit, cells=cells))
    assert "Not at equal work: over the decoder's layers fastv read another share" in page.blocks[0].detail


def test_more_datasets_than_marks_are_drawn_without_a_legend(audit):
    rows = audit.select(ranks.places("0.2500"))
    many = [{**row, "model": "tiny-a", "dataset": f"d{i}"} for i in range(20) for row in rows[:4]]
    figure = ranks.drawing(replace(audit, datasets=tuple(f"d{i}" for i in range(20))), "0.2500", many)
    assert figure.canvas.legends == []
