"""Figures of whole datasets against a slow, plain computation, with failed and unparsed samples among them."""

from collections import defaultdict
from statistics import fmean

import pyarrow.parquet as pq
import pytest

from lofi.cell import FULL, KEEP_ALL, Cell
from lofi.errors import UserError
from lofi.scoring.figures import COGNITION, METRICS, PERCEPTION, figures_of
from lofi.stats.aggregate import aggregate
from tests.unit.synthetic import make_sweep, write_sweep

FAMILIES = {
    "scenes-yesno": ("pope", "by_category", "hallusion"),
    "scenes-letters": ("circular", "categories", "total", "mme"),
    "scenes-open": ("score",),
}
AXES = ("model", "dataset", "method", "keep", "seed")


@pytest.fixture(scope="module")
def sweep():
    return make_sweep(models=("tiny-a",), methods={"random": (0, 1), "lofi": (0,)}, keeps=("0.2500",), images=10)


@pytest.fixture(scope="module")
def tables(sweep, tmp_path_factory):
    return aggregated(sweep, tmp_path_factory.mktemp("results"), FAMILIES)


def aggregated(sweep, results, metrics):
    aggregate(write_sweep(sweep, results), results / "tables", results / "audit.duckdb", metrics=metrics)
    return {name: pq.read_table(results / "tables" / f"{name}.parquet").to_pylist() for name in ("metrics", "cells")}


def same(row, full):
    if row["prediction_parsed"] is None and full["prediction_parsed"] is None:
        return row["prediction"].strip().lower() == full["prediction"].strip().lower()
    return row["prediction_parsed"] == full["prediction_parsed"]


def held_against(sweep, cell, basis):
    """Per sample of a cell: its row, whether it hit (None: it did not run), and the label."""
    full = {row["sample_id"]: row for row in sweep[Cell(cell.model, cell.dataset, FULL, KEEP_ALL)]}
    found = []
    for row in sweep[cell]:
        other = full[row["sample_id"]]
        hit = label = None
        if row["status"] == other["status"] == "ok":
            hit = row["correct"] if basis == "correct" else same(row, other)
            label = other["prediction_parsed"]
            if basis == "correct":
                said = row["prediction_parsed"]
                label = said if row["correct"] else {"yes": "no", "no": "yes"}.get(said)
        found.append((row, hit, label))
    return found


def ran(samples):
    return [sample for sample in samples if sample[1] is not None]


def accuracy(samples):
    return fmean(hit for _, hit, _ in ran(samples))


def share_of_groups(samples, by="group_id"):
    groups = defaultdict(list)
    for row, hit, _ in samples:
        groups[row[by]].append(hit)
    return fmean(all(hits) for hits in groups.values() if None not in hits)


def rates(samples):
    """Precision, recall, F1."""
    pairs = [(row["prediction_parsed"], label) for row, _, label in ran(samples)]
    true_yes = pairs.count(("yes", "yes"))
    yes = sum(said == "yes" for said, _ in pairs)
    false_no = pairs.count(("no", "yes"))
    return true_yes / yes, true_yes / (true_yes + false_no), 2 * true_yes / (true_yes + yes + false_no)


def within(samples, by):
    parts = defaultdict(list)
    for sample in samples:
        parts[sample[0][by]].append(sample)
    return dict(sorted(parts.items()))


def mme(samples):
    """100 times the share of hits plus 100 times the share of whole groups, where groups are pairs."""
    groups = defaultdict(list)
    for row, hit, _ in samples:
        groups[row["group_id"]].append(hit)
    whole = [hits for hits in groups.values() if None not in hits]
    hits = sum(map(sum, whole))
    return 100 * (hits + sum(len(hits) for hits in whole if all(hits))) / sum(map(len, whole))


def expected(dataset, samples, basis):
    by_category = within(samples, "category")
    if dataset == "scenes-yesno":
        precision, recall, f1 = rates(samples)
        f1s = {name: rates(part)[2] for name, part in by_category.items()}
        yes = {"yes_share": fmean(row["prediction_parsed"] == "yes" for row, *_ in ran(samples))}
        return {
            **{"accuracy": accuracy(samples), "precision": precision, "recall": recall, "f1": f1},
            **({("f1", name): value for name, value in f1s.items()}),
            **({"mean_f1": fmean(f1s.values())} | (yes if basis == "correct" else {})),
            **{("accuracy", name): accuracy(part) for name, part in by_category.items()},
            **{"aAcc": accuracy(samples), "qAcc": share_of_groups(samples)},
            "fAcc": share_of_groups(samples, "figure_id"),
        }
    if dataset == "scenes-letters":
        by_l2 = {name: accuracy(part) for name, part in within(samples, "l2_category").items()}
        scores = {name: mme(part) for name, part in by_category.items()}
        unrotated = [sample for sample in samples if sample[0]["sample_id"] == sample[0]["group_id"]]
        perception = sum(score for name, score in scores.items() if name in PERCEPTION)
        return {
            **{"circular": share_of_groups(samples), "vanilla": accuracy(unrotated)},
            **{"vanilla_all": accuracy(samples), "total": 1000 * accuracy(samples)},
            **{("accuracy", name): value for name, value in by_l2.items()},
            **{"mean_accuracy": fmean(by_l2.values()), "perception": perception, "sum": perception},
            **{("category_score", name): score for name, score in scores.items()},
            **{("accuracy", name): accuracy(part) for name, part in by_category.items()},
            **{("accuracy_plus", name): share_of_groups(part) for name, part in by_category.items()},
        }
    return {"score": fmean(row["score"] if basis == "correct" else hit for row, hit, _ in ran(samples))}


@pytest.mark.parametrize("basis", ["correct", "agreement"])
def test_figures_equal_a_slow_computation(sweep, tables, basis):
    found = defaultdict(dict)
    for row in tables["metrics"]:
        if row["basis"] == basis:
            name = row["metric"] if row["category"] is None else (row["metric"], row["category"])
            found[Cell(*(row[axis] for axis in AXES))][name] = row["value"]
    assert found.keys() == sweep.keys()
    for cell, figures in found.items():
        slow = expected(cell.dataset, held_against(sweep, cell, basis), basis)
        assert figures == pytest.approx(slow, abs=1e-7), cell  # scores are stored as float32


def test_the_sweep_has_groups_with_failed_samples_and_unparsed_answers(sweep):
    samples = held_against(sweep, Cell("tiny-a", "scenes-yesno", "random", "0.2500"), "correct")
    whole = [len(ran(part)) == len(part) for part in within(samples, "group_id").values()]
    assert {True, False} == set(whole)
    assert any(row["prediction_parsed"] is None for row, *_ in ran(samples))


def test_accuracy_and_agreement_are_those_of_the_cells_with_their_intervals(tables):
    cells = {tuple(cell[axis] for axis in AXES): cell for cell in tables["cells"]}
    compared = 0
    for row in tables["metrics"]:
        if row["metric"] in ("aAcc", "vanilla_all", "accuracy") and row["category"] is None:
            cell = cells[tuple(row[axis] for axis in AXES)]
            rate = "accuracy" if row["basis"] == "correct" else "agreement"
            assert [row["value"], row["low"], row["high"]] == [cell[f"{rate}{end}"] for end in ("", "_low", "_high")]
            assert row["n"] == cell["n"]
            compared += 1
    assert compared == 6 * len(cells) // 3


def test_intervals_hold_the_figure_and_units_say_what_it_is_out_of(tables):
    for row in tables["metrics"]:
        most = 1 if row["unit"] == "share" else float(row["unit"].removeprefix("of "))
        assert 0 <= row["low"] <= row["value"] <= row["high"] <= most * (1 + 1e-9), row
    units = {row["metric"]: row["unit"] for row in tables["metrics"]}
    assert units["perception"] == "of 400", "two of the ten categories are there"
    assert units["category_score"] == "of 200"
    assert units["total"] == "of 1000"
    assert {units[name] for name in ("f1", "mean_f1", "mean_accuracy", "circular", "qAcc")} == {"share"}


def test_the_full_model_agrees_with_itself(tables):
    rows = [row for row in tables["metrics"] if row["method"] == FULL and row["basis"] == "agreement"]
    assert rows
    for row in rows:
        most = 1 if row["unit"] == "share" else float(row["unit"].removeprefix("of "))
        assert row["value"] == row["low"] == row["high"] == pytest.approx(most)


def test_a_figure_without_one_of_its_categories_is_undefined(tmp_path):
    sweep = make_sweep(models=("tiny-a",), datasets=("scenes-letters",), methods={"lofi": (0,)}, keeps=("16",))
    gone = Cell("tiny-a", "scenes-letters", "lofi", "16")
    for row in sweep[gone]:
        if row["l2_category"] == "far":
            row["status"] = "error"
    rows = aggregated(sweep, tmp_path, {"scenes-letters": ("categories",)})["metrics"]
    found = {(row["category"], row["basis"]): row for row in rows if row["method"] == "lofi"}
    for basis in ("correct", "agreement"):
        assert found[None, basis]["value"] is found[None, basis]["low"] is None
        assert found["far", basis]["value"] is None
        assert found["near", basis]["value"] is not None


def test_a_dataset_that_names_none_gets_its_accuracy(tmp_path):
    sweep = make_sweep(models=("tiny-a",), datasets=("scenes-open",), methods={"lofi": (0,)}, keeps=("16",))
    assert {row["metric"] for row in aggregated(sweep, tmp_path, {})["metrics"]} == {"accuracy"}


def test_each_figure_comes_once_in_the_order_of_the_card():
    assert figures_of("d", ("accuracy", "pope"))[0] == METRICS["accuracy"][0]
    assert len(figures_of("d", ("accuracy", "pope"))) == len(METRICS["pope"])
    assert len({*PERCEPTION, *COGNITION}) == 14


def test_an_unknown_figure_names_the_nearest():
    with pytest.raises(UserError, match=r"unknown metric of dataset d 'popes': did you mean 'pope'\? choose from acc"):
        figures_of("d", ("popes",))


@pytest.mark.parametrize(
    ("family", "column", "said"),
    [
        ("mme", "category", "has a category, which its figure 'perception' counts by"),
        ("categories", "l2_category", "has an l2_category, which its figure 'mean_accuracy' counts by"),
        ("hallusion", "figure_id", "has a figure_id, which its figure 'fAcc' counts by"),
        ("circular", "group_id", "has its own id as its group_id, which its figure 'vanilla' counts by"),
    ],
)
def test_what_samples_lack_is_said_in_one_line(tmp_path, family, column, said):
    sweep = make_sweep(models=("tiny-a",), datasets=("scenes-yesno",), methods={"lofi": (0,)}, keeps=("16",), images=2)
    for rows in sweep.values():
        for row in rows:
            row[column] = "g" if column == "group_id" else None
    with pytest.raises(UserError) as caught:
        aggregated(sweep, tmp_path, {"scenes-yesno": (family,)})
    message = str(caught.value)
    assert message.startswith(f"no sample of dataset scenes-yesno {said}; ")
    assert "\n" not in message
    assert "lofi rescore" in message
