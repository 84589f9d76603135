"""Every measure against a slow and plain computation of its definition, and the identities between them."""

import math
from collections import Counter
from itertools import pairwise
from statistics import fmean

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import kendalltau, spearmanr

from lofi.cell import FLOOR, FULL, KEEP_ALL, Cell
from lofi.stats.aggregate import aggregate
from lofi.stats.texts import anls, normal_text, token_f1
from tests.unit.synthetic import make_sweep, write_sweep

KEY = ("model", "dataset", "method", "keep", "seed")
LABELLED = ("mcq", "yesno")


@pytest.fixture(scope="module")
def sweep():
    made = make_sweep(models=("tiny-a",), keeps=("0.2500", "16"), images=14, seed=5)
    for cell, rows in made.items():  # as real as can be: an answer that is read from options is one of them
        for row in rows:
            if cell.dataset != "scenes-open" and row["status"] == "ok" and row["prediction_parsed"] is None:
                best = int(np.argmax(row["option_logprobs"]))
                row.update(prediction_parsed=row["option_labels"][best], prediction=row["option_labels"][best])
                row["correct"] = row["prediction"] == row["target"]
                row["score"] = float(row["correct"])
    return made


@pytest.fixture(scope="module")
def tables(sweep, tmp_path_factory):
    return aggregated(sweep, tmp_path_factory.mktemp("results"))


def aggregated(sweep, results):
    aggregate(write_sweep(sweep, results, shards=1), results / "tables", results / "audit.duckdb")
    names = ("cells", "measures", "margins", "averages")
    return {name: pq.read_table(results / "tables" / f"{name}.parquet").to_pylist() for name in names}


@pytest.fixture(scope="module")
def found(tables):
    """Cell -> (channel, measure) -> row."""
    cells = {}
    for row in tables["measures"]:
        place = cells.setdefault(Cell(*(row[name] for name in KEY)), {})
        assert (row["channel"], row["measure"]) not in place
        place[row["channel"], row["measure"]] = row
    return cells


def pairs(sweep, cell):
    full = {row["sample_id"]: row for row in sweep[Cell(cell.model, cell.dataset, FULL, KEEP_ALL)]}
    both = [(row, full[row["sample_id"]]) for row in sweep[cell]]
    return [(this, other) for this, other in both if this["status"] == other["status"] == "ok"]


def answer_of(row):
    return row["prediction_parsed"] or ("unparsed", row["prediction"].strip().lower())


def near(value, **tolerance):
    return None if value is None else pytest.approx(value, **tolerance)


def mean(values):
    values = list(values)
    return fmean(values) if values else None


def over(numerator, denominator):
    return numerator / denominator if denominator else None


def test_every_cell_has_every_measure_of_its_kind(sweep, found):
    assert list(found) == sorted(sweep)
    kinds = {}
    for cell, rows in found.items():
        kinds.setdefault(cell.dataset, set()).add(frozenset(rows))
    assert all(len(kind) == 1 for kind in kinds.values())
    letters, _, texts = (next(iter(kinds[f"scenes-{kind}"])) for kind in ("letters", "yesno", "open"))
    assert {channel for channel, _ in letters} == {"answer", "options", "tokens"}
    assert {channel for channel, _ in texts} == {"answer", "tokens", "text"}


def test_answers(sweep, found):
    for cell, rows in found.items():
        paired = pairs(sweep, cell)
        n = len(paired)
        changed = [answer_of(this) != answer_of(other) for this, other in paired]
        right = [(other["correct"], this["correct"]) for this, other in paired]  # A, B
        b, c = right.count((True, False)), right.count((False, True))
        both_wrong = [not a_right and not b_right for a_right, b_right in right]
        w = sum(w and x for w, x in zip(both_wrong, changed, strict=True))
        full_right, this_right = sum(a for a, _ in right), sum(b for _, b in right)
        by_chance = (full_right * this_right + (n - full_right) * (n - this_right)) / n**2
        expected = {
            "divergence_rate": (sum(changed) / n, n),
            "neg_flip": (b / n, n),
            "pos_flip": (c / n, n),
            "wrong_to_other": (w / n, n),
            "flips": ((b + c) / n, n),
            "all_flips": ((b + c + w) / n, n),
            "accuracy": (this_right / n, n),
            "hidden_ratio": (over(b + c, abs(c - b)), b + c),
            "cancellation": (None if b + c == 0 else 1 - abs(c - b) / (b + c), b + c),
            "neg_flip_given_right": (over(b, full_right), full_right),
            "backward_compatibility": (over(full_right - b, full_right), full_right),
            "error_novelty": (over(b, b + sum(both_wrong)), n - this_right),
            "win_loss": (over(c, b), b + c),
            "kappa_correct": (over(1 - (b + c) / n - by_chance, 1 - by_chance), n),
            "unparsed": (mean(this["prediction_parsed"] is None for this, _ in paired), n),
        }
        for measure, (value, count) in expected.items():
            row = rows["answer", measure]
            assert (row["value"], row["n"]) == (near(value), count), (cell, measure)
        assert rows["answer", "accuracy"]["full_value"] == near(full_right / n)
        assert rows["answer", "accuracy"]["change"] == near((c - b) / n, abs=1e-12)
        assert rows["answer", "unparsed"]["full_value"] == near(mean(o["prediction_parsed"] is None for _, o in paired))


def test_identities_of_answers(found):
    for rows in found.values():
        value = {measure: row["value"] for (channel, measure), row in rows.items() if channel == "answer"}
        b, c, w, rr = (value[name] for name in ("neg_flip", "pos_flip", "wrong_to_other", "right_to_other"))
        assert value["divergence_rate"] == near(b + c + w + rr)
        assert value["all_flips"] == near(value["flips"] + w) == near(b + c + w)
        assert value["divergence_rate"] >= value["flips"] - 1e-12 >= abs(rows["answer", "accuracy"]["change"]) - 2e-12
        if value["neg_flip_given_right"] is not None:
            assert value["neg_flip_given_right"] + value["backward_compatibility"] == near(1)
        if value["hidden_ratio"] is not None:
            assert value["hidden_ratio"] >= 1
            assert value["cancellation"] == near(1 - 1 / value["hidden_ratio"])
        elif value["cancellation"] is not None:
            assert value["cancellation"] == 1  # all that was lost was made up for
        gained = value["score_gain"] - value["score_loss"]
        assert gained == near(rows["answer", "score"]["change"], abs=1e-9)


def test_labels(sweep, found):
    for cell, rows in found.items():
        labelled = [(t, o) for t, o in pairs(sweep, cell) if t["task_type"] in LABELLED]
        n = len(labelled)
        this, full = (Counter(map(answer_of, run)) for run in (zip(*labelled, strict=True) if n else ((), ())))
        assert rows["answer", "kappa"]["n"] == rows["answer", "answer_drift"]["n"] == n
        if not n:
            assert rows["answer", "kappa"]["value"] is rows["answer", "answer_drift"]["value"] is None
            continue
        agreement = sum(answer_of(t) == answer_of(o) for t, o in labelled) / n
        by_chance = sum(this[v] * full[v] for v in this) / n**2
        assert rows["answer", "kappa"]["value"] == near((agreement - by_chance) / (1 - by_chance))
        drift = sum(abs(this[v] - full[v]) for v in {*this, *full}) / (2 * n)
        assert rows["answer", "answer_drift"]["value"] == near(drift, abs=1e-12)
        assert drift <= 1 - agreement + 1e-12
        if cell.dataset == "scenes-yesno":
            row = rows["answer", "yes_rate"]
            assert (row["value"], row["full_value"], row["n"]) == (near(this["yes"] / n), near(full["yes"] / n), n)
            assert rows["answer", "position_drift"]["n"] == 0
        else:
            row = rows["answer", "first_option"]
            assert (row["value"], row["full_value"], row["n"]) == (near(this["A"] / n), near(full["A"] / n), n)
            assert rows["answer", "position_drift"]["value"] == near(drift, abs=1e-12)  # the labels are the places
            assert rows["answer", "yes_rate"]["n"] == 0


def test_accuracy_above_chance(found):
    for cell, rows in found.items():
        chance = {"scenes-yesno": 1 / 2, "scenes-letters": 1 / 4, "scenes-open": 0}[cell.dataset]
        assert rows["answer", "chance"]["value"] == near(chance, abs=1e-12)
        accuracy = rows["answer", "accuracy"]
        above = (accuracy["value"] - chance) / (accuracy["full_value"] - chance)
        assert rows["answer", "relative_above_chance"]["value"] == near(above)
        if cell.method == FULL:
            assert above == rows["answer", "relative_accuracy"]["value"] == 1


def softmax(logprobs):
    weights = np.exp(np.float32(logprobs).astype(float))
    return weights / weights.sum()


def kl(p, q):
    return float((p * np.log(p / q)).sum())


def test_options(sweep, found):
    for cell, rows in found.items():
        if cell.dataset == "scenes-open":
            assert not any(channel == "options" for channel, _ in rows)
            continue
        options = [(softmax(t["option_logprobs"]), softmax(o["option_logprobs"]), t) for t, o in pairs(sweep, cell)]
        places = [t["option_labels"].index(t["target"]) for _, _, t in options]
        many = [(p, q) for q, p, _ in options if len(q) >= 4]
        expected = {
            "kl": fmean(kl(p, q) for q, p, _ in options),
            "kl_reverse": fmean(kl(q, p) for q, p, _ in options),
            "js": fmean((kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2 for q, p, _ in options),
            "tv": fmean(np.abs(p - q).sum() / 2 for q, p, _ in options),
            "full_rank": fmean(1 + (q > q[p.argmax()]).sum() for q, p, _ in options),
            "full_in_top2": fmean((q > q[p.argmax()]).sum() < 2 for q, p, _ in options),
            "nll": fmean(-np.log(q[y]) for (q, _, _), y in zip(options, places, strict=True)),
            "spearman": mean(spearmanr(p, q).statistic for p, q in many),
            "kendall": mean(kendalltau(p, q).statistic for p, q in many),
        }
        for measure, value in expected.items():
            assert rows["options", measure]["value"] == near(value, rel=1e-6, abs=1e-6), (cell, measure)
            n = len(many) if measure in ("spearman", "kendall") else len(options)
            assert rows["options", measure]["n"] == n
        full_nll = fmean(-np.log(p[y]) for (_, p, _), y in zip(options, places, strict=True))
        assert rows["options", "nll"]["full_value"] == near(full_nll, rel=1e-6)
        assert 0 <= rows["options", "js"]["value"] <= math.log(2)
        assert rows["options", "tv"]["value"] ** 2 <= rows["options", "kl"]["value"] / 2 + 1e-9  # Pinsker, then Jensen


def test_where_answers_come_from_options_they_flip_as_the_margin_does(sweep, found):
    flips = 0
    for cell, rows in found.items():
        if cell.dataset == "scenes-open":
            continue
        behind = []
        for this, other in pairs(sweep, cell):
            z = np.float32(this["option_logprobs"]).astype(float)
            best = int(np.argmax(other["option_logprobs"]))
            margin = z[best] - np.delete(z, best).max()
            assert margin != 0
            assert (margin < 0) == (answer_of(this) != answer_of(other))
            behind.append(margin)
        margin = rows["options", "answer_margin"]
        assert margin["value"] == near(fmean(behind))
        assert margin["full_value"] == near(fmean(o["margin"] for _, o in pairs(sweep, cell)), rel=1e-5)
        assert rows["options", "other_preferred"]["value"] == near(rows["answer", "divergence_rate"]["value"])
        flips += sum(m < 0 for m in behind)
    assert flips > 30


def test_tokens(sweep, found):
    for cell, rows in found.items():
        paired = pairs(sweep, cell)
        for measure, source in (("kl", "kl_full_to_this"), ("kl_reverse", "kl_this_to_full"), ("js",) * 2, ("tv",) * 2):
            assert rows["tokens", measure]["value"] == near(fmean(this[source] for this, _ in paired))
        places = [this["topk_token_ids"].index(other["topk_token_ids"][0]) for this, other in paired]
        assert rows["tokens", "same_first_token"]["value"] == near(fmean(place == 0 for place in places))
        assert rows["tokens", "full_in_top5"]["value"] == near(fmean(place < 5 for place in places))
        margins = []
        for this, other in paired:
            logprobs = dict(zip(this["topk_token_ids"], this["topk_logprobs"], strict=True))
            best = logprobs.pop(other["topk_token_ids"][0])
            margins.append(best - max(logprobs.values()))
        if cell.dataset == "scenes-open":
            assert rows["tokens", "answer_margin"]["value"] == near(fmean(margins), rel=1e-5)
            if cell.method == FULL:
                assert rows["tokens", "answer_margin"]["change"] == near(0, abs=1e-6)
        else:  # their margin is over options
            assert rows["tokens", "answer_margin"]["n"] == 0


def test_texts(sweep, found):
    for cell, rows in found.items():
        if cell.dataset != "scenes-open":
            continue
        paired = pairs(sweep, cell)
        said = [(normal_text(this["prediction"]), normal_text(other["prediction"])) for this, other in paired]
        ids = [(this["gen_token_ids"], other["gen_token_ids"]) for this, other in paired]
        first = [next((i for i in range(max(len(a), len(b))) if a[i : i + 1] != b[i : i + 1]), None) for a, b in ids]
        shares = [1 if i is None else i / max(len(a), len(b)) for i, (a, b) in zip(first, ids, strict=True)]
        expected = {
            "identical": (fmean(this["prediction"] == other["prediction"] for this, other in paired), len(paired)),
            "same_normal": (fmean(a == b for a, b in said), len(paired)),
            "anls": (fmean(anls(*both) for both in said), len(paired)),
            "token_f1": (fmean(token_f1(*both) for both in said), len(paired)),
            "first_divergent": (mean(i for i in first if i is not None), sum(i is not None for i in first)),
            "common_share": (fmean(shares), len(paired)),
            "length_ratio": (fmean(len(a) / len(b) for a, b in ids), len(paired)),
            "truncated": (fmean(this["finish_reason"] == "length" for this, _ in paired), len(paired)),
        }
        for measure, (value, n) in expected.items():
            assert (rows["text", measure]["value"], rows["text", measure]["n"]) == (near(value), n), (cell, measure)
        cut = fmean(other["finish_reason"] == "length" for _, other in paired)
        assert rows["text", "truncated"]["full_value"] == near(cut)
        identical, same, f1 = (rows["text", name]["value"] for name in ("identical", "same_normal", "token_f1"))
        assert identical <= same <= f1


def test_margins_in_fifths(sweep, tables, found):
    for cell, rows in found.items():
        paired = pairs(sweep, cell)
        channel = "tokens" if cell.dataset == "scenes-open" else "options"
        fifths = [row for row in tables["margins"] if Cell(*(row[name] for name in KEY)) == cell]
        assert [row["fifth"] for row in fifths] == [1, 2, 3, 4, 5]
        assert {row["channel"] for row in fifths} == {channel}
        assert sum(row["n"] for row in fifths) == len(paired)
        changed = [answer_of(this) != answer_of(other) for this, other in paired]
        assert sum(row["n_changed"] for row in fifths) == sum(changed)
        for row, following in pairwise(fifths):
            assert row["margin_min"] <= row["margin_max"] <= following["margin_min"]
            assert row["divergence_rate"] == near(row["n_changed"] / row["n"])
        margins = np.float32([other["margin"] for _, other in paired])
        gone, stayed = margins[changed], margins[np.logical_not(changed)]
        wins = (gone[:, None] < stayed).sum() + (gone[:, None] == stayed).sum() / 2
        auroc = rows[channel, "margin_auroc"]
        assert auroc["value"] == near(over(float(wins), len(gone) * len(stayed)))
        assert auroc["n"] == len(paired)


def test_floor_and_excess(found):
    for cell, rows in found.items():
        floor = found[Cell(cell.model, cell.dataset, FLOOR, KEEP_ALL)]
        for place, row in rows.items():
            assert row["change"] == near(
                None if None in (row["value"], row["full_value"]) else row["value"] - row["full_value"], abs=1e-12
            )
            moved, noise = (
                each["change"] if each["full_value"] is not None else each["value"] for each in (row, floor[place])
            )
            assert (row["floor"], row["n_floor"]) == (near(noise), floor[place]["n"])
            if row["excess"] is not None:
                assert row["excess"] == near(moved - noise, abs=1e-12)
        assert rows["answer", "divergence_rate"]["excess"] is not None
        assert rows["answer", "hidden_ratio"]["excess"] is None


def test_full_is_not_moved(found):
    for cell, rows in found.items():
        if cell.method == FULL:
            for (channel, measure), row in rows.items():
                if row["full_value"] is not None:
                    assert row["change"] == near(0, abs=1e-6), (channel, measure)
            assert rows["answer", "divergence_rate"]["value"] == rows["tokens", "kl"]["value"] == 0


def test_a_sweep_without_a_floor_says_so(tmp_path):
    sweep = make_sweep(models=("tiny-a",), datasets=("scenes-yesno", "scenes-open"), keeps=("16",), images=4)
    del sweep[Cell("tiny-a", "scenes-yesno", FLOOR, KEEP_ALL)]
    tables = aggregated(sweep, tmp_path)
    bare = ("tiny-a", "scenes-yesno")
    for row in tables["cells"]:
        assert row["has_floor"] == ((row["model"], row["dataset"]) != bare)
        if not row["has_floor"]:
            assert row["agreement_floor"] is row["divergence_excess"] is row["kl_floor"] is None
    for row in tables["measures"]:
        if (row["model"], row["dataset"]) == bare:
            assert row["floor"] is row["excess"] is row["n_floor"] is None


def test_averages_over_datasets(tables):
    cells = [row for row in tables["cells"] if row["model"] == "tiny-a" and row["method"] == "random"]
    of_keep = [row for row in cells if row["keep"] == "16"]
    (row,) = (r for r in tables["averages"] if (r["model"], r["method"], r["keep"]) == ("tiny-a", "random", "16"))
    ratios = [
        fmean(c["relative_accuracy"] for c in of_keep if c["dataset"] == name) for name in {c["dataset"] for c in cells}
    ]
    assert row["n_datasets"] == row["n_datasets_of_model"] == len(ratios) == 3
    assert row["n"] == sum(c["n"] for c in of_keep)
    assert row["relative_accuracy"] == near(fmean(ratios))
    assert row["op_rms"] == near(math.sqrt(fmean(ratio**2 for ratio in ratios)))
    assert row["op_rms"] >= row["relative_accuracy"]


def test_an_average_over_other_datasets_is_none(tmp_path):
    sweep = make_sweep(models=("tiny-a",), datasets=("scenes-yesno", "scenes-open"), keeps=("16",), images=4)
    del sweep[Cell("tiny-a", "scenes-open", "lofi", "16")]
    rows = {row["method"]: row for row in aggregated(sweep, tmp_path)["averages"]}
    assert (rows["lofi"]["n_datasets"], rows["lofi"]["n_datasets_of_model"]) == (1, 2)
    assert rows["lofi"]["agreement"] is rows["lofi"]["relative_accuracy"] is rows["lofi"]["op_rms"] is None
    assert rows["random"]["agreement"] is not None


def test_without_grades_and_logits_the_rest_stays(tmp_path):
    sweep = make_sweep(models=("tiny-a",), datasets=("scenes-letters", "scenes-open"), keeps=("16",), images=4)
    gone = ("correct", "score", "target", "option_logprobs", "topk_token_ids", "topk_logprobs", "ref_topk_logprobs")
    for rows in sweep.values():
        for row in rows:
            row.update(dict.fromkeys((*gone, "gen_token_ids", "gen_logprobs", "margin")))
    tables = aggregated(sweep, tmp_path)
    assert tables["margins"] == []
    for row in tables["measures"]:
        assert row["topic"] not in ("calibration", "margins")
        assert (row["value"] is None) == (row["n"] == 0) or row["measure"] in ("win_loss", "hidden_ratio", "kappa")
        assert row["value"] is None or math.isfinite(row["value"])
    stay = {row["measure"] for row in tables["measures"] if row["n"]}
    assert {"divergence_rate", "kappa", "kl", "anls"} <= stay
    assert not {"accuracy", "flips", "score_gain", "nll", "first_divergent", "answer_margin"} & stay


def test_every_measure_is_defined_in_the_docs(found, repository):
    page = (repository / "docs" / "measures.md").read_text(encoding="utf-8")
    defined = {name for line in page.splitlines() if line.startswith("| `") for name in line.split("`")[1:-1:2]}
    measured = {measure for rows in found.values() for _, measure in rows}
    assert measured <= defined
