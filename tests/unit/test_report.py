import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lofi.errors import UserError
from lofi.report import benchmarks, drilldown, figures, overview, sentences, words
from lofi.report import build as build_module
from lofi.report.audit import AXES, Audit, mean_row, ordered, over_datasets
from lofi.scoring.figures import METRICS
from tests.unit.report_setup import HOSTILE, Results, make_results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return make_results(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def page(results: Results, tmp_path_factory: pytest.TempPathFactory) -> str:
    return results.build(tmp_path_factory.mktemp("page") / "index.html")


# ---- sentences -------------------------------------------------------------------------------------------------


def cell(method, keep="0.2500", agreement=0.9, accuracy=0.7, *, half=0.02, dataset="d", **more):
    """One row of the cells table, with intervals of `half` to both sides (None: without)."""
    bounds = {}
    for name, value in (("agreement", agreement), ("accuracy", accuracy)):
        known = half is not None and value is not None
        bounds |= {f"{name}_low": value - half if known else None, f"{name}_high": value + half if known else None}
    ratio = float(keep) if "." in keep else int(keep) / 144
    return {
        "model": "m", "dataset": dataset, "method": method, "keep": keep, "seed": 0, "keep_ratio": ratio,
        "n": 500, "n_errors": 0, "agreement": agreement, "accuracy": accuracy, **bounds,
        "relative_accuracy": None if accuracy is None else accuracy / 0.8,
        "kept_tokens": ratio * 144, "full_tokens": 144.0, "layer_mean_tokens": ratio * 144, "unparsed": 0.0, **more,
    }  # fmt: skip


def audit_of(*cells, full=0.8, floor=1.0, correlations=(), comparisons=(), random="random", datasets=("d",)):
    rows = list(cells)
    for dataset in datasets:
        rows.append(cell("full", "1.0000", 1.0, full, dataset=dataset))
        if floor is not None:
            rows.append(cell("floor", "1.0000", floor, full, dataset=dataset))
    methods = ordered((), rows, "method", lambda name: name not in ("full", "floor"))
    return Audit(
        rows, list(correlations), list(comparisons), [], ("m",), datasets, methods,
        random if random in methods else None,
    )  # fmt: skip


def test_harsh_names_both_losses_their_intervals_n_and_the_floor():
    found = sentences.harsh(audit_of(cell("lofi", agreement=0.8, accuracy=0.75), floor=0.99))
    assert "changes 20.0 %" in found.headline.replace("\xa0", " ")
    text = found.detail.replace("\xa0", " ")
    assert "from 80.0 % to 75.0 % [73.0, 77.0] (−5.0 points)" in text
    assert "changes 20.0 % [18.0, 22.0] of the answers" in text
    assert "4.0 changed answers for each one that accuracy shows" in text
    assert "n = 500 answers" in text
    assert "noise floor" in text
    assert "changes 1.0 % (n = 500)" in text


@pytest.mark.parametrize(
    ("agreement", "accuracy", "floor", "words"),
    [
        (0.8, 0.791, 1.0, "Accuracy hardly moves"),
        (0.8, 0.85, 1.0, "Accuracy rises"),
        (0.9, 0.7, 1.0, "nearly every changed answer"),
        (1.0, 0.8, 1.0, "changes no answer at all"),
        (0.97, 0.79, 0.96, "no more answers than running the full model twice"),
        (0.7, 0.6, 1.0, "costs 20.0 points of accuracy but changes 30.0 %"),
    ],
)
def test_harsh_headline_fits_the_outcome(agreement, accuracy, floor, words):
    found = sentences.harsh(audit_of(cell("lofi", agreement=agreement, accuracy=accuracy), floor=floor))
    assert words in found.headline.replace("\xa0", " ")


def test_harsh_takes_the_lowest_keep_and_says_when_nothing_can_be_averaged():
    both = audit_of(cell("lofi", "0.5000", 0.95), cell("lofi", "16", 0.6))
    assert "16 visual tokens" in sentences.harsh(both).detail
    ragged = audit_of(cell("lofi", "0.5000", dataset="d"), datasets=("d", "e"))
    assert "No keep was run" in sentences.harsh(ragged).headline
    assert "undefined" in sentences.harsh(audit_of(cell("lofi", agreement=None))).headline


def test_a_missing_floor_is_said():
    assert "noise floor was not measured" in sentences.harsh(audit_of(cell("lofi"), floor=None)).detail


def best(*cells, **options):
    found = sentences.best(audit_of(*cells, **options))
    return found.headline.replace("\xa0", " "), found.detail.replace("\xa0", " ")


def test_best_beats_random_only_where_the_difference_excludes_zero():
    headline, detail = best(cell("lofi", agreement=0.9), cell("random", agreement=0.7))
    assert headline == "With 25 % of the visual tokens, lofi keeps the most answers, more than random."
    assert "lofi keeps 90.0 % [88.0, 92.0]" in detail
    assert "a difference of +20.0 points [16.0, 24.0]" in detail
    headline, detail = best(cell("lofi", agreement=0.72), cell("random", agreement=0.7))
    assert "but not clearly more than random" in headline
    assert "overlap" in detail


def test_best_prefers_the_paired_difference():
    paired = {"model": "m", "dataset": "d", "keep": "0.2500", "method": "lofi", "versus": "random"}
    paired |= {"difference": 0.02, "low": 0.01, "high": 0.03}
    cells = cell("lofi", agreement=0.72), cell("random", agreement=0.7)
    headline, detail = best(*cells, comparisons=[paired])
    assert headline.endswith("more than random.")
    assert "but not" not in headline
    assert "+2.0 points [1.0, 3.0] (paired by image)" in detail


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([cell("lofi", agreement=0.6), cell("random", agreement=0.7)], "no method beats random"),
        ([cell("lofi", agreement=0.7), cell("random", agreement=0.7)], "no method beats random"),
        ([cell("a"), cell("b"), cell("random", agreement=0.5)], "a and b tie for most answers kept"),
        ([cell("lofi")], "lofi was the only method to compare"),
        ([cell("lofi", agreement=None)], "cannot be compared"),
        ([cell("lofi", layer_mean_tokens=100.0)], "cannot be compared"),
        ([cell("lofi", half=None), cell("random", agreement=0.5, half=None)], "whether it beats random is undefined"),
    ],
)
def test_best_fits_the_outcome(cells, words):
    assert words in best(*cells)[0]


def test_best_without_random_or_with_other_budgets_says_so():
    assert "Random was not run" in best(cell("a"), cell("b", agreement=0.8))[1]
    headline, detail = best(cell("a", layer_mean_tokens=60.0, agreement=0.99), cell("b"), cell("random", agreement=0.5))
    assert "b keeps the most" in headline
    assert "Left out, because their layer-mean differs from the keep: a." in detail


def correlation(scope="within_model_dataset_keep", **more):
    row = {
        "scope": scope, "delta": "dlog", "statistic": "ipr_u", "site": "projector", "tokens": "visual", "centred": True,
        "primary": True, "pearson": -0.5, "low": -0.7, "high": -0.2, "spearman": -0.4, "p": 0.01, "p_adjusted": 0.01,
        "n_cells": 24, "n_groups": 6, "resampled": "groups", "note": None,
    }  # fmt: skip
    return row | more


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (correlation(), "raise the IPR more keep fewer answers"),
        (correlation(pearson=0.5, low=0.2, high=0.7), "the reverse of the claim"),
        (correlation(pearson=-0.1, p=0.4), "no link"),
        (correlation(p=None), "undecided"),
        (correlation(pearson=None, p=None, note="agreement does not vary"), "cannot test the IPR claim"),
    ],
)
def test_the_ipr_sentence_fits_the_outcome(row, words):
    found = sentences.spectra(audit_of(cell("lofi"), correlations=[row]))
    assert words in found.headline


def test_the_ipr_sentence_gives_r_interval_p_n_and_the_pooled_value_as_a_warning():
    rows = [correlation(), correlation("pooled", pearson=-0.9, low=-0.95, high=-0.8)]
    detail = sentences.spectra(audit_of(cell("lofi"), correlations=rows)).detail.replace("\xa0", " ")
    assert "r = −0.50 [−0.70, −0.20], p = 0.010 (24 cells in 6 groups)" in detail
    assert "pooled over all cells it is r = −0.90 [−0.95, −0.80], which the keep alone can produce" in detail
    raw = correlation(statistic="ipr", centred=False, primary=False, pearson=-0.3, low=None, high=None)
    detail = sentences.spectra(audit_of(cell("lofi"), correlations=[*rows, raw])).detail
    assert "Raw IPR, as in the paper, has r = −0.30 at equal keep." in detail
    assert "at least two methods" in sentences.spectra(audit_of(cell("lofi"))).detail


# ---- numbers in words ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.921, "92.1 %"), (0.0, "0.0 %"), (1e-5, "< 0.1 %"), (0.99999, "> 99.9 %"), (1.0, "100.0 %"), (None, "–")],
)
def test_percent_never_rounds_to_nothing_or_all(value, text):
    assert words.percent(value).replace("\xa0", " ") == text


def test_points_and_counts():
    assert words.points(-0.0001).replace("\xa0", " ") == "0.0 points"
    assert words.points(0.012).replace("\xa0", " ") == "+1.2 points"
    assert words.count(12345, "answer").replace("\xa0", " ") == "12 345 answers"
    assert words.count(1, "pair").replace("\xa0", " ") == "1 pair"


def test_means_leave_out_what_one_cell_lacks_and_add_counts_up():
    mean = mean_row([cell("a", agreement=0.8), cell("a", agreement=0.6)], AXES[:-1])
    assert mean["agreement"] == pytest.approx(0.7)
    assert mean["n"] == 1000
    assert mean_row([cell("a", agreement=0.8), cell("a", agreement=None)], AXES[:-1])["agreement"] is None


def test_intervals_shrink_with_datasets_but_not_with_models():
    models = [{**cell("a"), "model": m} for m in "xy"]
    assert over_datasets(models, ("method",))["agreement_low"] == pytest.approx(0.88)
    datasets = [cell("a", dataset=d) for d in "wxyz"]
    merged = over_datasets(datasets, ("method",))
    assert merged["agreement"] == pytest.approx(0.9)
    assert (merged["agreement_low"], merged["agreement_high"]) == (pytest.approx(0.89), pytest.approx(0.91))
    unknown = over_datasets([*datasets, cell("a", dataset="v", half=None)], ("method",))
    assert unknown["agreement_low"] is None


# ---- warnings --------------------------------------------------------------------------------------------------


def titles(*cells, **options):
    return " ".join(w.title.replace("\xa0", " ") for w in overview.warnings(audit_of(*cells, **options)))


def test_a_clean_sweep_has_no_warnings():
    assert titles(cell("lofi")) == ""


def test_warnings_name_silent_no_ops_wrong_budgets_noise_gaps_and_small_cells():
    assert "1 cell below keep 1 changed no answer" in titles(cell("lofi", agreement=1.0))
    assert "kept another number of tokens" in titles(cell("lofi", kept_tokens=40.0, layer_mean_tokens=40.0))
    assert "kept another number of tokens" not in titles(cell("lofi", "0.1250", kept_tokens=18.0))
    assert "Running the full model again changes answers" in titles(cell("lofi"), floor=0.98)
    assert "noise floor is missing" in titles(cell("lofi"), floor=None)
    assert "unparsed" in titles(cell("lofi", unparsed=0.5))
    assert "only 20 samples" in titles(cell("lofi", n=20))


def test_keep_one_may_agree_everywhere():
    assert titles(cell("lofi", "1.0000", 1.0)) == ""


# ---- the page --------------------------------------------------------------------------------------------------


class Links(HTMLParser):
    """Every attribute that makes a browser load something, all ids, all inner links, and the tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.inner: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            value = value or ""
            if name == "id":
                self.ids.append(value)
            if name in ("href", "xlink:href") and value.startswith("#"):
                self.inner.append(value[1:])
            elif name in ("src", "srcset", "data", "poster", "action", "xlink:href") or (name == "href" and tag != "a"):
                self.loads.append(value)


def test_the_page_asks_for_nothing_and_every_link_inside_it_has_a_target(page):
    links = Links(page)
    assert all(load.startswith("data:image/jpeg;base64,") for load in links.loads), links.loads
    assert not re.search(r"@import|url\((?!#)", page)
    assert len(set(links.ids)) == len(links.ids)
    assert set(links.inner) <= set(links.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(links.ids)


def test_the_page_has_one_h1_captions_and_titles_on_drawings(page):
    links = Links(page)
    assert links.tags.count("h1") == 1
    assert links.tags.count("caption") == links.tags.count("table")
    assert page.count('role="img"') == page.count("<title id=") + page.count('class="thumb"')


def test_sections_come_in_order(page):
    order = ["answer", "overview", "kept", "benchmarks", "flips-section", "spectra", "self-agreement", "samples"]
    order += ["provenance", "definitions"]
    assert re.findall(r'<section id="([^"]+)"', page) == order


def test_same_input_same_bytes(results, page, tmp_path):
    assert results.build(tmp_path / "again.html") == page
    assert "2026-01-02" in results.build(tmp_path / "dated.html", generated="2026-01-02")
    assert "2026-01-02" not in page


def test_the_page_is_small_even_when_it_has_to_drop_samples(results, page, tmp_path, monkeypatch):
    assert len(page.encode()) < 5_000_000
    assert page.count("<article") > 30
    monkeypatch.setattr(build_module, "MAX_BYTES", len(page.encode()) - 1)
    smaller = results.build(tmp_path / "smaller.html")
    assert 0 < smaller.count("<article") < page.count("<article")
    monkeypatch.setattr(build_module, "MAX_BYTES", 10_000)
    with pytest.raises(UserError, match="split the sweep"):
        results.build(tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists()


def test_every_text_is_escaped(tmp_path):
    hostile = make_results(tmp_path, datasets=("scenes-letters",), keeps=("0.2500",), hostile=True)
    page = hostile.build(tmp_path / "index.html", command=HOSTILE, generated=HOSTILE)
    links = Links(page)
    assert links.tags.count("script") == 1
    assert "img" not in links.tags
    assert page.count(str(html.escape(HOSTILE)).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")) > 30
    assert "{{ 7 * 7 }}" in page
    assert not any(load.startswith("http") for load in links.loads)


def test_missing_cells_stop_the_report_and_are_listed(results, tmp_path):
    absent = [results.root / f"samples/model=m/absent-{i}.parquet" for i in range(30)]
    with pytest.raises(UserError, match=r"30 of \d+ cells are missing: .*absent-0.*and 10 more") as raised:
        Results(results.root, results.sweep, [*results.files, *absent]).build(tmp_path / "x.html")
    assert "absent-19" in str(raised.value)
    assert not (tmp_path / "x.html").exists()


def test_cells_newer_than_the_tables_stop_the_report(tmp_path):
    made = make_results(tmp_path, datasets=("scenes-yesno",), methods={"lofi": (0,)}, keeps=("0.2500",))
    table = pq.read_table(made.files[0])
    pq.write_table(table.replace_schema_metadata({b"lofi": json.dumps({"key": "new"}).encode()}), made.files[0])
    with pytest.raises(UserError, match="run `lofi aggregate` again"):
        made.build(tmp_path / "x.html")


def test_missing_tables_are_named(results, tmp_path):
    empty = Results(tmp_path, results.sweep, [])
    with pytest.raises(UserError, match=r"cells\.parquet, correlations\.parquet, flips\.parquet, runs\.parquet"):
        empty.build(tmp_path / "x.html")


@pytest.mark.parametrize(
    "shape",
    [
        {"methods": {"lofi": (0,)}, "keeps": ("0.2500",), "datasets": ("scenes-open",)},
        {"methods": {"random": (0, 1)}, "keeps": ("16",), "datasets": ("scenes-yesno",)},
        {"models": ("tiny-a", "tiny-b"), "keeps": ("0.5000", "0.2500")},
    ],
    ids=["one method, one keep", "random only, a count", "two models"],
)
def test_sweeps_of_other_shapes(shape, tmp_path):
    page = make_results(tmp_path, **shape).build(tmp_path / "index.html")
    for model in shape.get("models", ("tiny-a",)):
        assert model in page
    assert page.count("<figure") >= 3


def test_without_spectra_flips_docs_or_thumbnails(tmp_path):
    made = make_results(tmp_path, datasets=("scenes-yesno",), keeps=("0.2500",))
    for name in ("flips", "correlations"):
        path = tmp_path / "tables" / f"{name}.parquet"
        pq.write_table(pq.read_table(path).slice(0, 0), path)
    for path in (tmp_path / "data").rglob("*.parquet"):
        path.unlink()
    page = made.build(tmp_path / "index.html", thumbnails=())
    assert "No answer changed in any cell." in page
    assert "No spectra were stored" in page
    assert "<image" not in page


def test_thumbnails_only_where_they_are_allowed(results, page, tmp_path):
    assert page.count("<image href=") == len(set(re.findall(r'<use href="#(img-\d+)"', page))) > 0
    assert "<image" not in results.build(tmp_path / "none.html", thumbnails=())
    one = results.build(tmp_path / "one.html", thumbnails={"scenes-yesno"})
    shown = {
        re.search(r'data-dataset="([^"]+)"', a).group(1)
        for a in re.findall(r"<article.*?</article>", one, re.S)
        if "<use" in a
    }
    assert shown == {"scenes-yesno"}


# ---- the drill-down --------------------------------------------------------------------------------------------


def test_the_path_covers_exactly_the_dropped_tokens():
    kept = [0, 5, 6, 11]
    covered = set()
    for x, y, length in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\d+z", drilldown.dropped_path(kept, (3, 4))):
        covered |= {int(y) * 4 + int(x) + step for step in range(int(length))}
    assert covered == set(range(12)) - set(kept)


def test_the_choice_is_even_capped_and_does_not_depend_on_order(results, tmp_path):
    audit = build_module.read(results.root / "tables", results.sweep)
    rows, total = drilldown.choose(audit, results.root / "tables", cap=20)
    flips = pq.read_table(results.root / "tables" / "flips.parquet")
    assert len(rows) == 20
    assert total == flips.num_rows
    pq.write_table(flips.take(pa.array(range(flips.num_rows - 1, -1, -1))), tmp_path / "flips.parquet")
    assert drilldown.choose(audit, tmp_path, cap=20) == (rows, total)
    group = [(r["dataset"], r["method"], r["keep"], r["class"]) for r in rows]
    n_groups = len(set(zip(*(flips[c].to_pylist() for c in ("dataset", "method", "keep", "class")), strict=True)))
    assert len(set(group)) == min(20, n_groups)


@pytest.mark.parametrize("content", [None, b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_a_broken_image_is_no_thumbnail(content):
    assert drilldown.thumbnail(content, "img-0") is None


def test_the_report_imports_only_the_store_of_lofi():
    folder = Path(build_module.__file__).parent
    allowed = {"lofi", "lofi.store", "lofi.cell", "lofi.errors"}
    for path in folder.glob("*.py"):
        for name in re.findall(r"^(?:from|import) (lofi[\w.]*)", path.read_text(), re.M):
            assert name in allowed or name.startswith("lofi.report"), f"{path.name} imports {name}"


def test_figure_titles_say_why_there_is_nothing_to_draw():
    never_right = audit_of(cell("lofi", relative_accuracy=None))
    assert "the full model is never right" in figures.kept_against_kept(never_right).title
    ragged = audit_of(cell("lofi"), datasets=("d", "e"))
    assert "nothing to average" in figures.kept_against_kept(ragged).title
    assert figures.ipr(never_right) is None


def test_provenance_lists_distinct_values_what_matters_first():
    stamps = [{"key": str(i), "commit": "abc", "constants": {"dtype": t}} for i, t in enumerate(("f32", "bf16"))]
    runs = [{"path": str(i), "errors": 0, "provenance": json.dumps(s)} for i, s in enumerate(stamps)]
    audit = replace(audit_of(cell("lofi")), runs=runs)
    assert overview.provenance(audit) == [("commit", "abc"), ("dtype", "bf16; f32")]


# ---- figures of whole datasets ---------------------------------------------------------------------------------


def test_benchmark_tables_have_a_column_for_each_figure_and_its_agreement(results):
    audit = build_module.read(results.root / "tables", results.sweep)
    letters, yesno = benchmarks.benchmarks(audit, 1000)
    assert [column.label for column in letters.whole.columns] == [
        *("method", "keep", "circular", "circular, agreement"),
        *("vanilla, unrotated", "vanilla, unrotated, agreement", "vanilla, all rows", "vanilla, all rows, agreement"),
        *("mean of categories", "mean of categories, agreement"),
    ]
    labels = [column.label for column in yesno.whole.columns]
    assert "perception (of 400)" in labels
    assert "perception, agreement" in labels
    assert "share of yes" in labels
    assert "share of yes, agreement" not in labels
    points = [point for point in audit.points if point["dataset"] == "scenes-yesno"]
    assert len(yesno.whole.rows) == len(points)
    assert [row[0].text for row in yesno.whole.rows[:2]] == ["full", "floor"]
    assert {row[2].text for row in yesno.by_category.rows} == {"count", "exists", "position"}
    assert len(yesno.by_category.rows) == 3 * len(points)


def test_a_figure_is_the_mean_over_seeds_in_its_own_unit(results):
    audit = build_module.read(results.root / "tables", results.sweep)
    rows = [
        row
        for row in audit.metrics
        if (row["dataset"], row["method"], row["keep"], row["metric"], row["basis"])
        == ("scenes-yesno", "random", "0.2500", "perception", "correct")
    ]
    assert [row["seed"] for row in rows] == [0, 1]
    whole = benchmarks.benchmarks(audit, 1000)[1].whole
    at = [column.label for column in whole.columns].index("perception (of 400)")
    entry = next(row[at] for row in whole.rows if (row[0].text, row[1].text) == ("random", "0.25"))
    low, high = (sum(row[end] for row in rows) / 2 for end in ("low", "high"))
    assert entry.text == f"{sum(row['value'] for row in rows) / 2:.1f} [{low:.1f},\xa0{high:.1f}]"


def test_every_figure_has_a_definition(page):
    for family in METRICS.values():
        for figure in family:
            assert f'id="def-figure-{figure.metric.replace("_", "-")}"' in page, figure.metric


def test_tables_without_figures_say_so(tmp_path):
    made = make_results(tmp_path, datasets=("scenes-yesno",), keeps=("0.2500",))
    (tmp_path / "tables" / "metrics.parquet").unlink()
    assert "The tables hold no figures of whole datasets" in made.build(tmp_path / "index.html")


def test_how_each_dataset_was_asked_and_graded(results, page):
    audit = build_module.read(results.root / "tables", results.sweep)
    assert overview.settings(audit) == [
        ("scenes-letters", "tiny-a", "lmms_eval", "letters", "1", "letters", "template of tiny-a", "original"),
        ("scenes-yesno", "tiny-a", "lmms_eval", "yesno", "1", "yesno", "template of tiny-a", "original"),
    ]
    assert page.count("<td>template of tiny-a</td>") == 2
