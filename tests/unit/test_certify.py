"""`lofi certify`: the tables it reads, the sequence it tests, and the command itself."""

import csv
import io
import json
import math
import subprocess
import sys
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest

from lofi.cell import FULL, KEEP_ALL, Cell
from lofi.cli import main
from lofi.errors import UserError
from lofi.stats.aggregate import aggregate
from lofi.stats.certificates import LIMITS, Measured, certify, default_table, measured
from lofi.stats.risks import Counts, upper_bound
from tests.unit.synthetic import make_sweep, write_sweep

ANSWER = ("prediction", "prediction_parsed", "score", "correct", "status", "error", "scorer", "scorer_version")


def made(images=200, questions=1):
    """No sample fails, and what `lofi` answers at its milder keep is what full does."""
    sweep = make_sweep(
        models=("tiny-a",),
        datasets=("scenes-yesno",),
        methods={"lofi": (0,), "random": (0, 1)},
        keeps=("0.5000", "0.2500"),
        images=images,
        questions=questions,
    )
    failed = {row["sample_id"] for rows in sweep.values() for row in rows if row["status"] != "ok"}
    sweep = {cell: [row for row in rows if row["sample_id"] not in failed] for cell, rows in sweep.items()}
    full = {row["sample_id"]: row for row in sweep[Cell("tiny-a", "scenes-yesno", FULL, KEEP_ALL)]}
    for row in sweep[Cell("tiny-a", "scenes-yesno", "lofi", "0.5000")]:
        row |= {name: full[row["sample_id"]].get(name) for name in ANSWER}
    return sweep


def written(sweep, results):
    aggregate(write_sweep(sweep, results, shards=1), results / "tables", results / "audit.duckdb", threads=1)
    return results


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return written(made(), tmp_path_factory.mktemp("certify") / "results")


@pytest.fixture(scope="module")
def clustered(tmp_path_factory):
    """Three questions an image, and samples that fail."""
    sweep = make_sweep(models=("tiny-a",), datasets=("scenes-yesno", "scenes-open"), images=12)
    for row in sweep[Cell("tiny-a", "scenes-open", "lofi", "0.5000")]:
        row |= {"correct": None, "score": None}
    return sweep, written(sweep, tmp_path_factory.mktemp("certify") / "results")


def rows(results, name):
    return pq.read_table(results / "tables" / f"{name}.parquet").to_pylist()


def step(keep, tokens, events, *, seed=0, images=400, errors=0, counts=True):
    """One keep of one method: `events` of the images, each with one sample, went wrong."""
    found = Counts(np.ones(2), np.array([0.0, 1.0]), np.array([images - events, float(events)]))
    return Measured(
        *("m", "d", "method", keep, seed, tokens, "negative_flip", images, images, errors, found if counts else None)
    )


def went_wrong(risk, this, full):
    """Slow and plain: does a sample count against its cell?"""
    if this["status"] != "ok" or full["status"] != "ok":
        return True
    if this["prediction_parsed"] is None and full["prediction_parsed"] is None:
        agrees = this["prediction"].strip().lower() == full["prediction"].strip().lower()
    else:
        agrees = this["prediction_parsed"] == full["prediction_parsed"]
    if risk == "divergence":
        return not agrees
    lost, won = full["correct"] and not this["correct"], this["correct"] and not full["correct"]
    return not agrees and (lost or (risk == "flip" and won))


def test_the_table_of_risks_equals_a_slow_count(clustered):
    sweep, results = clustered
    found = rows(results, "risks")
    assert len(found) == 2 * 13 * 3  # datasets, cells but full, risks
    for row in found:
        cell = Cell(*(row[name] for name in ("model", "dataset", "method", "keep", "seed")))
        full = {other["sample_id"]: other for other in sweep[Cell(cell.model, cell.dataset, FULL, KEEP_ALL)]}
        assert row["n"] == len(sweep[cell]) == 36
        assert row["n_errors"] == sum(
            "error" in {this["status"], full[this["sample_id"]]["status"]} for this in sweep[cell]
        )
        if all(this.get("correct") is None for this in sweep[cell]) and row["risk"] != "divergence":
            assert (row["n_events"], row["rate"], row["upper"], row["patterns"]) == (None, None, None, [])
            continue
        wrong, samples = Counter(), Counter()
        for this in sweep[cell]:
            samples[this["cluster_id"]] += 1
            wrong[this["cluster_id"]] += went_wrong(row["risk"], this, full[this["sample_id"]])
        patterns = Counter((samples[image], wrong[image]) for image in samples)
        assert row["n_images"] == len(samples) == 12
        assert row["n_events"] == sum(wrong.values())
        assert row["rate"] == sum(wrong.values()) / 36
        assert [(p["samples"], p["events"], p["images"]) for p in row["patterns"]] == [
            (*pattern, patterns[pattern]) for pattern in sorted(patterns)
        ]
        assert row["rate"] < row["upper"] < 1


def test_the_same_samples_give_the_same_bytes(clustered, tmp_path):
    sweep, results = clustered
    again = written(sweep, tmp_path / "again")
    for name in ("risks", "certificates"):
        path = f"tables/{name}.parquet"
        assert (results / path).read_bytes() == (again / path).read_bytes()


def test_the_table_of_certificates_has_every_method_and_risk(results, clustered):
    for place in (results, clustered[1]):
        found = rows(place, "certificates")
        keys = {(row["model"], row["dataset"], row["method"], row["risk"]) for row in rows(place, "risks")}
        assert {(row["model"], row["dataset"], row["method"], row["risk"]) for row in found} == {
            key for key in keys if key[2] != "floor" and key[3] in LIMITS
        }
    assert found == default_table(measured(rows(place, "risks"))).to_pylist()


def test_a_method_without_grades_is_told_so(clustered):
    found = {(row["dataset"], row["method"], row["risk"]): row for row in rows(clustered[1], "certificates")}
    ungraded = found["scenes-open", "lofi", "negative_flip"]
    assert (ungraded["keep"], ungraded["reason"], ungraded["stopped_rate"]) == (None, "grades", None)
    assert found["scenes-open", "lofi", "divergence"]["reason"] in ("rate", "images")


def test_an_error_counts_as_a_negative_flip(tmp_path):
    sweep = made(images=20)
    sweep[Cell("tiny-a", "scenes-yesno", "lofi", "0.5000")][0] |= {"status": "error", "correct": None, "score": None}
    found = rows(written(sweep, tmp_path / "results"), "risks")
    lofi = {row["risk"]: row for row in found if (row["method"], row["keep"]) == ("lofi", "0.5000")}
    assert [lofi[risk]["n_events"] for risk in ("negative_flip", "flip", "divergence")] == [1, 1, 1]
    assert {row["n_errors"] for row in lofi.values()} == {1}


def test_testing_stops_at_the_first_keep_that_fails():
    steps = [step("0.7500", 108, 1), step("0.5000", 72, 2), step("0.2500", 36, 30), step("0.1250", 18, 0)]
    (found,) = certify(steps, "negative_flip", 0.02, 0.95)
    assert (found.keep, found.layer_mean_tokens, found.rate) == ("0.5000", 72, 2 / 400)
    assert found.upper == upper_bound(steps[1].counts, 0.95) <= 0.02
    assert (found.stopped_keep, found.stopped_rate, found.reason) == ("0.2500", 30 / 400, "rate")
    assert found.images_needed is None


def test_the_order_is_that_of_tokens_whatever_a_keep_is_called():
    steps = [step("0.2500", 36, 40), step("100", 100, 0), step("16", 16, 0), step("auto", 50.5, 0)]
    (found,) = certify(steps, "negative_flip", 0.02, 0.95)
    assert (found.keep, found.stopped_keep) == ("auto", "0.2500")


def test_a_keep_at_which_every_sample_failed_comes_first():
    (found,) = certify([step("0.5000", 72, 0), step("0.9000", None, 400, errors=400)], "negative_flip", 0.02, 0.95)
    assert (found.keep, found.stopped_keep, found.stopped_errors) == (None, "0.9000", 400)


def test_every_seed_must_pass():
    steps = [step("0.5000", 72, 0), step("0.5000", 72, 3, seed=1), step("0.2500", 36, 0), step("0.2500", 36, 9, seed=1)]
    (found,) = certify(steps, "negative_flip", 0.02, 0.95)
    assert (found.keep, found.rate) == ("0.5000", 3 / 400)
    assert (found.stopped_keep, found.stopped_rate) == ("0.2500", 9 / 400)


def test_too_few_images_are_told_apart_from_a_high_rate():
    (found,) = certify([step("0.5000", 72, 0, images=100)], "negative_flip", 0.02, 0.95)
    assert (found.keep, found.reason, found.images_needed) == (None, "images", 149)
    assert (found.n, found.n_images) == (100, 100)
    (found,) = certify([step("0.5000", 72, 0, images=149)], "negative_flip", 0.02, 0.95)
    assert (found.keep, found.stopped_keep, found.reason) == ("0.5000", None, None)


@pytest.mark.parametrize("correlation", [0.0, 0.4])
@pytest.mark.parametrize("rates", [(0.02, 0.02, 0.02), (0.001, 0.02, 0.05), (0.0, 0.002, 0.0201)], ids=str)
def test_a_family_of_keeps_is_wrong_no_more_often_than_stated(rates, correlation):
    """At and beyond the limit of 2 %, with keeps that share their images' luck."""
    rng = np.random.default_rng([round(1e4 * sum(rates)), int(10 * correlation)])
    trials, images, questions, wrong = 300, 200, 3, 0
    for _ in range(trials):
        luck = rng.random((images, 1)) if correlation else np.zeros((images, 1))
        steps = []
        for place, rate in enumerate(rates):
            whole = luck[:, 0] < rate if correlation else np.zeros(images, bool)
            each = rng.binomial(questions, rate, images)
            events = np.where(rng.random(images) < correlation, questions * whole, each)
            values, found = np.unique(events, return_counts=True)
            counts = Counts(np.full(len(values), 3.0), values.astype(float), found.astype(float))
            axes = ("m", "d", "method", f"0.{9 - place}000", 0, 100.0 - place, "negative_flip", 600, images, 0)
            steps.append(Measured(*axes, counts))
        (certificate,) = certify(steps, "negative_flip", 0.02, 0.95)
        certified = {each.keep: rate for each, rate in zip(steps, rates, strict=True)}
        wrong += certificate.keep is not None and certified[certificate.keep] >= 0.02
    assert wrong <= trials * 0.05 + 3 * math.sqrt(trials * 0.05 * 0.95)


def run(*arguments):
    code = "import sys; from lofi.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("limit", "confidence", "said"),
    [(0, 0.95, "a limit of 0 is no share"), (2, 0.95, "write 0.02 for 2 %"), (0.02, 95, "write 0.95 for 95 %")],
)
def test_strange_numbers_are_refused(limit, confidence, said):
    with pytest.raises(UserError, match=said):
        certify([step("0.5000", 72, 0)], "negative_flip", limit, confidence)


def test_the_command_says_what_is_certified_and_what_is_not(results, capsys):
    assert main(["certify", "--results", str(results), "--max-negative-flips", "0.05"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("the smallest keep shown to have a negative flip rate of at most 5 %, with 95 % one-sided")
    lofi, random = said.splitlines()[-2:]
    assert lofi.split()[2:5] == ["lofi", "0.5000", "72"]
    assert "keep 0.2500 has" in lofi
    assert random.split()[2:4] == ["random", "none"]
    assert random.endswith("the limit or more")
    assert main(["certify", "--results", str(results), "--max-divergence", "0.001", "--confidence", "0.9"]) == 0
    said = capsys.readouterr().out
    assert "a divergence rate of at most 0.1 %, with 90 % one-sided" in said
    n = rows(results, "risks")[0]["n"]
    bound = 100 * (1 - 0.1 ** (1 / n))
    assert f"keep 0.5000 has 0 %, shown to be at most {bound:.3g} %; at this rate 2302 images would do" in said


def test_other_thresholds_need_no_samples(results, tmp_path, capsys):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "risks.parquet").write_bytes((results / "tables" / "risks.parquet").read_bytes())
    options = ["certify", "--results", str(tmp_path), "--format"]
    assert main([*options, "json"]) == 0
    stored = [row for row in rows(results, "certificates") if row["risk"] == "negative_flip"]
    assert json.loads(capsys.readouterr().out) == stored
    assert main([*options, "csv"]) == 0
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["method"] for row in table] == ["lofi", "random"]
    assert table[1]["keep"] == ""


def test_the_command_by_itself(results, tmp_path):
    done = run("certify", "--results", results)
    assert (done.returncode, done.stderr) == (0, "")
    done = run("certify", "--results", tmp_path)
    assert done.returncode == 2
    assert (
        done.stderr
        == f"lofi certify: there is no table risks in {tmp_path}/tables; make the tables with: lofi aggregate\n"
    )
