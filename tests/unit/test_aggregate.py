import json
import math
import shutil
from collections import defaultdict
from statistics import fmean

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from lofi import store
from lofi.cell import FLOOR, FULL, KEEP_ALL, Cell
from lofi.errors import UserError
from lofi.stats import aggregate as aggregate_module
from lofi.stats.aggregate import TABLES, aggregate
from lofi.stats.points import SCOPES
from tests.unit.synthetic import MADE_ON, make_sweep, write_sweep

KEY = ("model", "dataset", "method", "keep", "seed")
CLASSES = ("neg_flip", "pos_flip", "wrong_to_other", "right_to_other")


@pytest.fixture(scope="module")
def sweep():
    return make_sweep()


@pytest.fixture(scope="module")
def tables(sweep, tmp_path_factory):
    return aggregated(sweep, tmp_path_factory.mktemp("results"))


def aggregated(sweep, results, **options):
    files = write_sweep(sweep, results, shards=options.pop("shards", 1))
    aggregate(files, results / "tables", results / "audit.duckdb", **options)
    return {name: pq.read_table(results / "tables" / f"{name}.parquet").to_pylist() for name in TABLES}


@pytest.fixture(scope="module")
def one(sweep, tmp_path_factory):
    """One model on one dataset, in shards, and what was made of it."""
    results, said = tmp_path_factory.mktemp("one") / "results", []
    small = {cell: rows for cell, rows in sweep.items() if cell.model == "tiny-a" and cell.dataset == "scenes-open"}
    tables = aggregated(small, results, shards=2, progress=said.append)
    assert said
    return small, results, tables


def by_cell(rows):
    return {Cell(*(row[name] for name in KEY)): row for row in rows}


def pairs(sweep, cell):
    """Slow and plain: (this row, full row) of every sample that ran in both."""
    full = {row["sample_id"]: row for row in sweep[Cell(cell.model, cell.dataset, FULL, KEEP_ALL)]}
    found = [(row, full[row["sample_id"]]) for row in sweep[cell]]
    return [(row, other) for row, other in found if row["status"] == other["status"] == "ok"]


def same(row, other):
    if row["prediction_parsed"] is None and other["prediction_parsed"] is None:
        return row["prediction"].strip().lower() == other["prediction"].strip().lower()
    return row["prediction_parsed"] == other["prediction_parsed"]


def class_of(row, other):
    if same(row, other):
        return None
    return {(1, 0): CLASSES[0], (0, 1): CLASSES[1], (0, 0): CLASSES[2], (1, 1): CLASSES[3]}[
        (int(other["correct"]), int(row["correct"]))
    ]


def mean_of(rows, name):
    values = [row[name] for row in rows if row.get(name) is not None]
    return fmean(values) if values else None


def stored(value):
    """A statistic as the store holds it."""
    return None if value is None else float(np.float32(value))


def test_the_sweep_has_every_oddity(sweep):
    rows = [row for cell in sweep.values() for row in cell]
    assert {row["status"] for row in rows} == {"ok", "error"}
    found = {class_of(*pair) for cell in sweep for pair in pairs(sweep, cell)}
    assert found == {None, *CLASSES}
    assert any(
        row["prediction_parsed"] is None and same(row, other) and row["prediction"] != other["prediction"]
        for cell in sweep
        for row, other in pairs(sweep, cell)
    )


def test_every_cell_is_there_once_in_order(sweep, tables):
    assert list(by_cell(tables["cells"])) == sorted(sweep)


def test_answer_metrics_equal_a_slow_computation(sweep, tables):
    timings = by_cell(tables["timings"])
    assert list(timings) == list(by_cell(tables["cells"]))
    for cell, row in by_cell(tables["cells"]).items():
        row |= timings[cell]
        paired = pairs(sweep, cell)
        these = [this for this, _ in paired]
        classes = [class_of(*pair) for pair in paired]
        assert row["n"] == len(paired)
        assert row["n_errors"] == len(sweep[cell]) - len(paired)
        assert row["accuracy"] == pytest.approx(fmean(this["correct"] for this in these))
        accuracy_full = fmean(other["correct"] for _, other in paired)
        assert row["accuracy_full"] == pytest.approx(accuracy_full)
        assert row["relative_accuracy"] == pytest.approx(row["accuracy"] / accuracy_full)
        assert row["agreement"] == pytest.approx(fmean(same(*pair) for pair in paired))
        assert row["n_agree"] == classes.count(None)
        for name in CLASSES:
            assert row[f"n_{name}"] == classes.count(name)
            assert row[name] == pytest.approx(classes.count(name) / len(paired))
        columns = {
            "score": "score",
            "kl": "kl_full_to_this",
            "js": "js",
            "tv": "tv",
            "kept_tokens": "n_visual_kept",
            "full_tokens": "n_visual_full",
            "layer_mean_tokens": "mean_visual_tokens",
            "keep_ratio": "keep_ratio",
            **{name: name for name in ("answer_mass", "top1_is_option", "margin")},
            **{f"t_{name}_ms": f"t_{name}_ms" for name in ("vision", "select", "prefill", "decode")},
        }
        for column, source in columns.items():
            expected = mean_of(these, source)
            assert row[column] == (expected if expected is None else pytest.approx(expected, rel=1e-6)), column
        assert row["unparsed"] == pytest.approx(fmean(this["prediction_parsed"] is None for this in these))


def test_costs_equal_a_slow_computation(sweep, tables):
    costs = MADE_ON["decoder"]
    for cell, row in by_cell(tables["cells"]).items():
        these = [this for this, _ in pairs(sweep, cell)]
        lengths = [[kept + this["n_text_tokens"] for kept in this["n_kept_per_layer"]] for this in these]
        assert row["device"] == "cpu (Abacus)"
        assert row["decoder_tokens"] == pytest.approx(fmean(fmean(layers) for layers in lengths))
        assert row["cache_bytes"] == pytest.approx(fmean(costs["cache_bytes_per_token"] * sum(n) for n in lengths))
        assert row["prefill_flops"] == pytest.approx(
            fmean(sum(n * costs["flops_per_token"] + n * n * costs["flops_per_pair"] for n in each) for each in lengths)
        )


def test_costs_are_unknown_where_the_files_do_not_tell(sweep, tmp_path, monkeypatch):
    monkeypatch.setattr("tests.unit.synthetic.MADE_ON", {})
    small = {cell: rows for cell, rows in sweep.items() if cell.model == "tiny-a" and cell.dataset == "scenes-open"}
    tables = aggregated(small, tmp_path / "results")
    for row in tables["cells"]:
        assert [row[name] for name in ("device", "prefill_flops", "cache_bytes")] == [None] * 3
        assert row["decoder_tokens"] > 0


def test_floor_stands_beside_every_cell(tables):
    cells = by_cell(tables["cells"])
    for cell, row in cells.items():
        floor = cells[Cell(cell.model, cell.dataset, FLOOR, KEEP_ALL)]
        assert row["agreement_floor"] == floor["agreement"]
        assert row["divergence_excess"] == pytest.approx(floor["agreement"] - row["agreement"])
        assert [row[f"{name}_floor"] for name in ("kl", "js", "tv")] == [floor[n] for n in ("kl", "js", "tv")]


def test_identities(tables):
    for row in tables["cells"]:
        assert 1 - row["agreement"] == pytest.approx(sum(row[name] for name in CLASSES))
        assert row["accuracy"] - row["accuracy_full"] == pytest.approx(row["pos_flip"] - row["neg_flip"])
        assert row["agreement_low"] <= row["agreement"] <= row["agreement_high"]
        assert row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"]
        assert row["neg_flip_low"] <= row["neg_flip"] <= row["neg_flip_high"]
        if row["method"] == FULL:
            assert row["agreement"] == row["agreement_low"] == 1
            assert row["neg_flip_high"] == row["kl"] == 0


def test_flips_are_the_changed_answers(sweep, tables):
    expected = {
        (cell, this["sample_id"]): (this, other)
        for cell in sweep
        for this, other in pairs(sweep, cell)
        if not same(this, other)
    }
    flips = {(Cell(*(row[name] for name in KEY)), row["sample_id"]): row for row in tables["flips"]}
    assert list(flips) == sorted(expected)
    for key, row in flips.items():
        this, other = expected[key]
        assert row["class"] == class_of(this, other)
        assert (row["reduced_answer"], row["full_answer"]) == (
            this["prediction_parsed"],
            other["prediction_parsed"],
        )
        assert (row["reduced_prediction"], row["full_prediction"]) == (this["prediction"], other["prediction"])
        assert row["margin_full"] == pytest.approx(other["margin"])
        assert row["margin_reduced"] == pytest.approx(this["margin"])
        assert row["option_labels"] == this["option_labels"]
        for name, answered in (("full", other), ("reduced", this)):
            assert row[f"{name}_option_logprobs"] == pytest.approx(answered["option_logprobs"])
        assert row["kl"] == pytest.approx(this["kl_full_to_this"])
        for name in ("kept_indices", "group_id", "cluster_id", "image_hash", "category", "n_visual_full"):
            assert row[name] == this[name]


def test_categories_equal_a_slow_computation(sweep, tables):
    expected = {}
    for cell in sweep:
        groups = defaultdict(list)
        for pair in pairs(sweep, cell):
            groups[pair[0]["category"]].append(pair)
        for category, paired in groups.items():
            expected[cell, category] = (
                len(paired),
                fmean(this["correct"] for this, _ in paired),
                fmean(same(*pair) for pair in paired),
                fmean(class_of(*pair) == "neg_flip" for pair in paired),
            )
    found = {
        (Cell(*(row[name] for name in KEY)), row["category"]): (
            row["n"],
            row["accuracy"],
            row["agreement"],
            row["neg_flip"],
        )
        for row in tables["categories"]
    }
    assert list(found) == sorted(expected)
    for key, values in found.items():
        assert values == pytest.approx(expected[key])


def test_spectra_equal_a_slow_computation(sweep, tables):
    sites = defaultdict(list)
    for cell in sweep:
        for this, other in pairs(sweep, cell):
            full = {(s["site"], s["tokens"], s["centred"]): s for s in other["spectra"]}
            for spectrum in this["spectra"]:
                place = spectrum["site"], spectrum["tokens"], spectrum["centred"]
                for name in store.STATISTICS:
                    sites[cell, *place, name].append((stored(spectrum[name]), stored(full[place][name])))
    found = {
        (Cell(*(row[n] for n in KEY)), row["site"], row["tokens"], row["centred"], row["statistic"]): row
        for row in tables["spectra"]
    }
    assert list(found) == sorted(sites)
    for key, row in found.items():
        both = [(a, b) for a, b in sites[key] if a is not None and b is not None and math.isfinite(a - b)]
        assert row["n"] == len(both)
        assert row["value"] == pytest.approx(fmean(a for a, _ in both))
        assert row["full_value"] == pytest.approx(fmean(b for _, b in both))
        assert row["delta"] == pytest.approx(fmean(a - b for a, b in both), rel=1e-9, abs=1e-15)
        positive = [(a, b) for a, b in both if a > 0 and b > 0]
        assert row["n_dlog"] == len(positive)
        assert row["dlog"] == pytest.approx(fmean(math.log(a) - math.log(b) for a, b in positive), rel=1e-9, abs=1e-15)
    assert any(row["n_dlog"] < row["n"] for row in tables["spectra"])


def test_cells_hold_the_spectra_as_columns(tables):
    cells = by_cell(tables["cells"])
    for row in tables["spectra"]:
        cell = cells[Cell(*(row[name] for name in KEY))]
        centring = "centred" if row["centred"] else "raw"
        name = f"{row['statistic']}_{row['site']}_{row['tokens']}_{centring}"
        assert (cell[name], cell[f"d_{name}"], cell[f"dlog_{name}"]) == (row["value"], row["delta"], row["dlog"])
    wide = [name for name in next(iter(cells.values())) if name.endswith(("_raw", "_centred"))]
    assert len(wide) == len(store.STATISTICS) * 2 * 2 * 2 * 3


def test_runs_list_the_files(one):
    small, results, tables = one
    runs = tables["runs"]
    assert [row["path"] for row in runs] == sorted(cell.path(shard) for cell in small for shard in (0, 1))
    for row in runs:
        file = results / row["path"]
        rows = pq.read_table(file).to_pylist()
        assert row["rows"] == len(rows)
        assert row["errors"] == sum(row["status"] == "error" for row in rows)
        assert json.loads(row["provenance"]) == store.read_metadata(file)
        assert row["key"] == store.read_metadata(file)["key"]
        assert row["method"] == rows[0]["method"]


def test_the_primary_correlation_stands_first(tables):
    first = tables["correlations"][: len(SCOPES)]
    assert [row["scope"] for row in first] == sorted(SCOPES)
    for row in first:
        assert row["primary"]
        assert (row["delta"], row["statistic"], row["site"]) == ("dlog", "ipr_u", "projector")
        assert (row["tokens"], row["centred"]) == ("visual", True)
        assert row["p_adjusted"] == row["p"]
    cells = 2 * 3 * 3 * 3  # models, datasets, methods, keeps: seeds are averaged
    assert {row["scope"]: (row["n_cells"], row["n_groups"]) for row in first} == {
        "pooled": (cells, 1),
        "within_model_dataset": (cells, 6),
        "within_model_dataset_keep": (cells, 18),
        "partial": (cells, 6),
        "random_only": (2 * 3 * 3 * 2, 6),  # one method, its seeds apart
        "excess_over_random": (2 * 3 * 3 * 2, 6),  # the other two methods
    }
    assert not any(row["primary"] for row in tables["correlations"][len(SCOPES) :])
    assert len(tables["correlations"]) == len(SCOPES) * 2 * 8 * len(store.STATISTICS)


def test_adjusted_p_is_benjamini_hochberg(tables):
    from scipy.stats import false_discovery_control

    for scope in ("pooled", "within_model_dataset_keep"):
        rows = [row for row in tables["correlations"] if row["scope"] == scope and not row["primary"]]
        rows = [row for row in rows if row["p"] is not None]
        adjusted = false_discovery_control([row["p"] for row in rows])
        assert [row["p_adjusted"] for row in rows] == pytest.approx(adjusted)


def test_same_samples_give_the_same_bytes(sweep, tmp_path):
    small = {cell: rows for cell, rows in sweep.items() if cell.dataset == "scenes-letters"}
    written = []
    for name, threads in (("a", 1), ("b", 4)):
        results = tmp_path / name
        files = write_sweep(small, results, shards=2)
        aggregate(files[:: 1 if threads == 1 else -1], results / "tables", results / "audit.duckdb", threads=threads)
        written.append({file.name: file.read_bytes() for file in (results / "tables").iterdir()})
    assert sorted(written[0]) == sorted(f"{name}.parquet" for name in TABLES)
    assert written[0] == written[1]


def test_the_database_holds_the_same(one):
    small, results, tables = one
    with duckdb.connect(results / "audit.duckdb", read_only=True) as con:
        for name in TABLES:
            assert con.table(name).to_arrow_table().to_pylist() == tables[name]
        assert con.execute("SELECT count(*) FROM samples").fetchall() == [(sum(map(len, small.values())),)]
    assert sorted(path.name for path in results.iterdir()) == ["audit.duckdb", "samples", "tables"]


def test_a_failure_leaves_what_was_there(one, monkeypatch):
    small, results, _ = one
    made = [results / "audit.duckdb", *sorted((results / "tables").iterdir())]
    before = [path.read_bytes() for path in made]

    def fail(con):
        raise RuntimeError("on purpose")

    monkeypatch.setattr(aggregate_module.points, "tests", fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        aggregated(small, results)
    assert [path.read_bytes() for path in made] == before
    assert sorted(path.name for path in results.iterdir()) == ["audit.duckdb", "samples", "tables"]
    assert len(list((results / "tables").iterdir())) == len(TABLES)


def small_sweep(**options):
    return make_sweep(models=("tiny-a",), datasets=("scenes-yesno",), keeps=("0.2500",), **options)


def test_nothing_to_average_is_null(tmp_path):
    sweep = small_sweep()
    cell = Cell("tiny-a", "scenes-yesno", "lofi", "0.2500")
    for row in sweep[cell]:
        row["status"] = "error"
    row = by_cell(aggregated(sweep, tmp_path)["cells"])[cell]
    assert (row["n"], row["n_errors"]) == (0, 24)
    empty = ("accuracy", "agreement", "agreement_low", "neg_flip", "n_neg_flip", "kl", "divergence_excess")
    assert [row[name] for name in empty] == [None] * len(empty)


def test_without_grades_agreement_stays(tmp_path):
    sweep = small_sweep()
    for rows in sweep.values():
        for row in rows:
            row["correct"] = row["score"] = None
    tables = aggregated(sweep, tmp_path)
    for row in tables["cells"]:
        assert row["agreement"] is not None
        for name in ("accuracy", "accuracy_low", "score", "neg_flip", "n_neg_flip", "neg_flip_low"):
            assert row[name] is None
    assert {row["class"] for row in tables["flips"]} == {None}


def test_without_spectra_the_rest_stays(tmp_path):
    sweep = small_sweep()
    for rows in sweep.values():
        for row in rows:
            row["spectra"] = None
    tables = aggregated(sweep, tmp_path)
    assert len(tables["cells"]) == len(sweep)
    assert tables["spectra"] == tables["correlations"] == []


def test_one_image_has_no_interval(tmp_path):
    cells = aggregated(small_sweep(images=1), tmp_path)["cells"]
    for row in cells:
        assert row["accuracy"] is not None
        assert row["accuracy_low"] is row["accuracy_high"] is None


def test_files_that_cannot_be_read_are_named(tmp_path):
    files = write_sweep(small_sweep(), tmp_path)
    files[3].write_bytes(files[3].read_bytes()[:100])
    with pytest.raises(UserError, match=f"{files[3].name} cannot be read"):
        aggregate(files, tmp_path / "tables", tmp_path / "audit.duckdb")


def test_no_files_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no sample files"):
        aggregate([], tmp_path / "tables", tmp_path / "audit.duckdb")


def test_the_results_folder_may_have_any_name(tmp_path):
    results = tmp_path / "it's [here] *"
    tables = aggregated(small_sweep(images=2), results)
    assert tables["cells"]
    shutil.rmtree(results)
