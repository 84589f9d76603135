import re

import pytest

from lofi.report import categories
from lofi.report.audit import Audit, read
from lofi.report.drawing import Figure
from lofi.report.page import Finding, Fold, Listing, Page, Prose, walk
from lofi.report.pages.datasets import names, pages
from lofi.report.render import render
from lofi.report.sources import text
from lofi.report.tables import Table
from lofi.stats.query import query
from tests.unit.pages.reading import blocks_of, cells_of, edited
from tests.unit.report_setup import HOSTILE, make_results


@pytest.fixture(scope="module")
def audit(tmp_path_factory) -> Audit:
    made = make_results(tmp_path_factory.mktemp("results"), models=("tiny-a", "tiny-b"), keeps=("0.5000", "0.2500"),
                        own=("prumerge",), images=4, stability=False)  # fmt: skip
    return read(made.root / "tables", made.sweep)


@pytest.fixture(scope="module")
def made(audit) -> dict[str, Page]:
    return {page.title: page for page in pages(audit)}


def test_every_dataset_has_a_page_of_its_own(audit, made):
    assert tuple(made) == audit.datasets
    assert [page.id for page in made.values()] == ["dataset-scenes-letters", "dataset-scenes-yesno"]
    assert {page.group for page in made.values()} == {"Datasets"}
    ids = [block.id for page in made.values() for block in walk(page.blocks) if isinstance(block, Figure | Table)]
    assert len(set(ids)) == len(ids)


def test_anchors_are_of_letters_and_digits_and_never_the_same():
    found = names(("POPE", "pope", "pope ", "a/b", "数", "!", "pope--2"))
    assert found["POPE"] == "dataset-pope"
    assert len(set(found.values())) == len(found)
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in found.values())


def test_the_kept_table_has_every_point_with_the_numbers_of_all_seeds(audit, made):
    rows = cells_of(blocks_of(made["scenes-yesno"].blocks, Table)["dataset-scenes-yesno-kept"])
    points = [point for point in audit.points if point["dataset"] == "scenes-yesno"]
    assert len(rows) == len(points)
    assert [row["method"] for row in rows[:2]] == ["full", "floor"]
    (stored,) = audit.select(
        "SELECT agreement, agreement_low, agreement_high, n FROM methods WHERE model = 'tiny-b' AND method = 'random' "
        "AND keep = '0.2500' AND dataset = 'scenes-yesno'"
    )
    (row,) = [r for r in rows if (r["model"], r["method"], r["keep"]) == ("tiny-b", "random", "0.25")]
    low, high = (100 * stored[f"agreement_{end}"] for end in ("low", "high"))
    assert row["answers kept (agreement)"] == f"{100 * stored['agreement']:.1f} % [{low:.1f}, {high:.1f}]"
    assert row["n"] == str(stored["n"])
    (own,) = [r for r in rows if (r["model"], r["keep"]) == ("tiny-a", "own count")]
    assert re.fullmatch(r"2\d\.\d \(20 to 30\)", own["kept tokens"])


def test_the_finding_is_of_this_dataset_at_the_middle_keep(audit, made):
    finding = made["scenes-yesno"].blocks[0]
    assert isinstance(finding, Finding)
    rows = audit.select(
        "SELECT avg(agreement) AS agreement FROM (SELECT method, avg(agreement) AS agreement FROM methods "
        "WHERE dataset = 'scenes-yesno' AND keep = '0.2500' GROUP BY method)"
    )
    said = f"{finding.headline} {finding.detail}".replace("\xa0", " ")
    assert (
        f"On scenes-yesno, keeping 25 % of the visual tokens changes {100 - 100 * rows[0]['agreement']:.1f} %" in said
    )
    assert "Mean of 3 methods and 2 models" in said
    assert re.search(r"right in [\d.]+ % \[[\d., ]+\] on tiny-a \(n = \d+\)", said)
    assert "A second run of it changes" in said


def test_without_a_floor_or_grades_the_finding_says_so(audit, tmp_path):
    nothing = ", ".join(f"NULL::DOUBLE AS {name}" for name in ("accuracy", "accuracy_low", "accuracy_high"))
    bare = edited(
        audit,
        tmp_path,
        methods=f"SELECT * REPLACE ({nothing}) FROM methods WHERE method <> 'floor'",
        cells=f"SELECT * REPLACE ({nothing}, NULL::DOUBLE AS relative_accuracy) FROM cells WHERE method <> 'floor'",
    )
    finding = pages(bare)[0].blocks[0]
    assert "No answer of the full model is graded." in finding.detail
    assert "The noise floor was not measured with every model." in finding.detail
    assert "accuracy" not in finding.headline


def test_a_dataset_without_a_common_keep_has_no_mean(tmp_path):
    made = make_results(tmp_path, methods={}, keeps=(), own=("prumerge",), datasets=("scenes-yesno",), images=3,
                        stability=False)  # fmt: skip
    (page,) = pages(read(made.root / "tables", made.sweep))
    assert "so there is no mean" in page.blocks[0].headline
    assert "dataset-scenes-yesno-kept" in blocks_of(page.blocks, Table)
    assert "dataset-scenes-yesno-pairs" not in blocks_of(page.blocks, Table)


# ---- benchmark figures -----------------------------------------------------------------------------------------


def test_benchmark_tables_have_a_column_for_each_figure_and_its_agreement(audit, made):
    letters = blocks_of(made["scenes-letters"].blocks, Table)["dataset-scenes-letters-figures"]
    assert [column.label for column in letters.columns] == [
        *("model", "method", "keep", "circular", "circular, agreement"),
        *("vanilla, unrotated", "vanilla, unrotated, agreement", "vanilla, all rows", "vanilla, all rows, agreement"),
        *("mean of categories", "mean of categories, agreement", "n"),
    ]
    tables = blocks_of(made["scenes-yesno"].blocks, Table)
    whole, parts = (tables[f"dataset-scenes-yesno-{end}"] for end in ("figures", "parts"))
    labels = [column.label for column in whole.columns]
    assert {"perception (of 400)", "perception, agreement", "share of yes"} <= set(labels)
    assert "share of yes, agreement" not in labels
    points = [point for point in audit.points if point["dataset"] == "scenes-yesno"]
    assert len(whole.rows) == len(points)
    assert {row["category"] for row in cells_of(parts)} == {"count", "exists", "position"}
    assert len(parts.rows) == 3 * len(points)


def test_a_figure_is_the_mean_over_seeds_in_its_own_unit(audit, made):
    rows = audit.select(
        "SELECT value, low, high, n FROM metrics WHERE dataset = 'scenes-yesno' AND model = 'tiny-a' AND "
        "method = 'random' AND keep = '0.2500' AND metric = 'perception' AND basis = 'correct'"
    )
    assert len(rows) == 2
    value, low, high = (sum(row[name] for row in rows) / 2 for name in ("value", "low", "high"))
    whole = cells_of(blocks_of(made["scenes-yesno"].blocks, Table)["dataset-scenes-yesno-figures"])
    (row,) = [r for r in whole if (r["model"], r["method"], r["keep"]) == ("tiny-a", "random", "0.25")]
    assert row["perception (of 400)"] == f"{value:.1f} [{low:.1f}, {high:.1f}]"
    assert int(row["n"]) >= sum(row["n"] for row in rows)


def test_a_dataset_without_figures_says_so(audit, tmp_path):
    page = pages(edited(audit, tmp_path, metrics="FROM metrics WHERE false"))[0]
    prose = [str(block.html) for block in page.blocks if isinstance(block, Prose)]
    assert any("no benchmark figures" in text for text in prose)


# ---- categories ------------------------------------------------------------------------------------------------


def test_a_category_is_the_mean_over_models_of_means_over_seeds(audit):
    found = {category.name: category for category in categories.categories(audit, "scenes-yesno", "0.2500")}
    assert set(found) == {"count", "exists", "position"}
    rows = audit.select(
        "SELECT model, avg(agreement) AS agreement, sum(n) AS n FROM categories WHERE dataset = 'scenes-yesno' AND "
        "keep = '0.2500' AND method = 'random' AND category = 'count' GROUP BY model"
    )
    row = found["count"].methods["random"]
    assert row["agreement"] == pytest.approx(sum(r["agreement"] for r in rows) / 2)
    assert row["n"] == sum(r["n"] for r in rows)
    assert list(found["count"].methods) == ["random", "lofi", "fastv"]
    assert found["count"].full["agreement"] == 1
    assert [c.questions for c in found.values()] == sorted((c.questions for c in found.values()), reverse=True)


def test_the_figure_of_categories_has_their_numbers_and_names(audit, made):
    figure = blocks_of(made["scenes-yesno"].blocks, Figure)["dataset-scenes-yesno-categories"]
    found = categories.categories(audit, "scenes-yesno", "0.2500")
    (axes,) = figure.canvas.axes
    shown = [f"{100 * row['agreement']:.1f}" for category in found for row in category.methods.values()]
    assert [text.get_text() for text in axes.texts] == shown
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels == [f"{category.name} ({category.questions})" for category in found]
    assert len(figure.rows) == 9
    least = min(found, key=lambda category: category.agreement)
    assert f"about “{least.name}” change most" in figure.title


def test_many_categories_are_capped_and_it_is_said(audit, tmp_path):
    many = "SELECT * REPLACE (category || ' ' || i AS category, n + i AS n) FROM categories, range(20) AS t(i)"
    many_columns = f"SELECT * EXCLUDE (i) FROM ({many})"
    page = pages(edited(audit, tmp_path, categories=many_columns))[1]
    figure = blocks_of(page.blocks, Figure)["dataset-scenes-yesno-categories"]
    assert len(figure.canvas.axes[0].get_yticks()) == categories.DRAWN
    assert "The 25 categories of most questions of 60 are drawn." in figure.caption
    assert len(blocks_of(page.blocks, Table)["dataset-scenes-yesno-category"].rows) == 60


@pytest.mark.parametrize(("where", "said"), [("false", "no categories"), ("category = 'count'", "a single category")])
def test_without_two_categories_the_page_says_so(audit, tmp_path, where, said):
    page = pages(edited(audit, tmp_path, categories=f"FROM categories WHERE {where}"))[1]
    assert any(said in str(block.html) for block in page.blocks if isinstance(block, Prose))
    assert "dataset-scenes-yesno-categories" not in blocks_of(page.blocks, Figure)


def test_a_category_that_one_model_lacks_the_rate_of_has_none(audit, tmp_path):
    gone = (
        "SELECT * REPLACE (if(model = 'tiny-a' AND category = 'count', NULL, agreement) AS agreement) FROM categories"
    )
    found = categories.categories(edited(audit, tmp_path, categories=gone), "scenes-yesno", "0.2500")
    (count,) = [category for category in found if category.name == "count"]
    assert count.agreement is None
    assert count.methods["lofi"]["n"] > 0


# ---- all of it -------------------------------------------------------------------------------------------------


def test_pairs_of_one_dataset_carry_their_tests(audit, made):
    rows = cells_of(blocks_of(made["scenes-yesno"].blocks, Table)["dataset-scenes-yesno-pairs"])
    assert len(rows) == 2 * 3
    stored = audit.select(
        "SELECT * FROM comparisons WHERE dataset = 'scenes-yesno' AND keep = '0.2500' AND model = 'tiny-a' AND "
        "basis = 'agreement' AND versus <> 'full' AND difference > 0 ORDER BY difference DESC"
    )
    (row,) = [
        r for r in rows if (r["model"], r["method"], r["less"]) == ("tiny-a", stored[0]["method"], stored[0]["versus"])
    ]
    assert row["p"] == ("< 0.001" if stored[0]["p"] < 0.001 else f"{stored[0]['p']:.3f}")
    assert row["n"] == str(stored[0]["n"])


def test_it_is_said_how_the_dataset_was_asked(made):
    (listing,) = [block for block in made["scenes-yesno"].blocks if isinstance(block, Listing)]
    assert [row[0] for row in listing.rows] == ["tiny-a", "tiny-b"]
    assert {"prompt style", "scorer"} <= set(listing.columns)


def test_figures_and_tables_say_how_and_their_queries_run(audit, made):
    for page in made.values():
        shown = [block for block in walk(page.blocks) if isinstance(block, Figure | Table | Finding | Listing)]
        assert len(shown) >= 9
        for block in shown:
            assert block.how.n
            assert query(block.how.query, audit.source.folder, "csv").count("\n") > 1
            assert all(text(name) for name in block.how.made_by)


def test_hostile_names_stay_text(audit, tmp_path):
    name = HOSTILE.replace("'", "''")
    made = edited(
        audit, tmp_path, categories=f"SELECT * REPLACE ('{name} $x$ ' || category AS category) FROM categories"
    )
    page = render(pages(made), title="t", lede="l")
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    assert "$x$" in page


def test_a_dataset_of_a_strange_name_is_found_by_its_queries(audit, tmp_path):
    strange = "it''s \"odd\""
    tables = {
        name: f"SELECT * REPLACE (if(dataset = 'scenes-yesno', '{strange}', dataset) AS dataset) FROM {name}"
        for name in audit.source.names
        if "dataset" in audit.source.connection.sql(f"FROM {name}").columns
    }
    odd = edited(audit, tmp_path, **tables)
    (page,) = [page for page in pages(odd) if page.title == 'it\'s "odd"']
    assert page.id == "dataset-it-s-odd"
    assert len(blocks_of(page.blocks, Table)[f"{page.id}-kept"].rows) > 0
    assert all(isinstance(fold.summary, str) for fold in page.blocks if isinstance(fold, Fold))
