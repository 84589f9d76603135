"""Paired comparisons of methods against a slow computation on the same rows."""

from collections import defaultdict
from itertools import product
from math import comb
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import false_discovery_control

from lofi.cell import FLOOR, FULL, KEEP_ALL, Cell
from lofi.stats.aggregate import aggregate
from tests.unit.synthetic import make_sweep, write_sweep

KEY = ("model", "dataset", "keep", "basis", "method", "versus")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, list[dict]]:
    results: Path = tmp_path_factory.mktemp("results")
    sweep = make_sweep(datasets=("scenes-yesno", "scenes-open"), keeps=("0.5000", "0.2500"), own=("prumerge",))
    aggregate(write_sweep(sweep, results), results / "tables", results / "audit.duckdb")
    return sweep, pq.read_table(results / "tables" / "comparisons.parquet").to_pylist()


def same(row: dict, other: dict) -> bool:
    both = (row["prediction_parsed"], other["prediction_parsed"])
    texts = [each["prediction"].strip().lower() for each in (row, other)]
    return texts[0] == texts[1] if both == (None, None) else both[0] == both[1]


def hits(sweep: dict, wanted: dict, method: str) -> list[dict[str, tuple[str, bool]]]:
    """For every seed of a method at a keep: sample -> (image, whether it counts), of those that ran."""
    found = []
    for cell, rows in sweep.items():
        if (cell.model, cell.dataset, cell.method) != (wanted["model"], wanted["dataset"], method):
            continue
        if method != FULL and cell.keep != wanted["keep"]:
            continue
        full = {row["sample_id"]: row for row in sweep[Cell(cell.model, cell.dataset, FULL, KEEP_ALL)]}
        seed = {}
        for row in rows:
            other = full[row["sample_id"]]
            if row["status"] == other["status"] == "ok":
                hit = same(row, other) if wanted["basis"] == "agreement" else bool(row["correct"])
                seed[row["sample_id"]] = (row["cluster_id"], hit)
        found.append(seed)
    return found


def rate(seeds: list[dict[str, tuple[str, bool]]], samples: set[str] | None = None) -> float:
    return float(np.mean([hit for seed in seeds for name, (_, hit) in seed.items() if not samples or name in samples]))


def test_every_ordered_pair_is_compared_once(found: tuple[dict, list[dict]]) -> None:
    sweep, rows = found
    blocks: dict[tuple, set[str]] = defaultdict(set)
    for cell in sweep:
        blocks[cell.model, cell.dataset, cell.keep].add(cell.method)
    expected = set()
    for (model, dataset, keep), methods in blocks.items():
        free = {method for method in methods if method not in (FULL, FLOOR)}
        for basis, method, versus in product(("agreement", "correct"), free, free):
            if method != versus:
                expected.add((model, dataset, keep, basis, method, versus))
        expected |= {(model, dataset, keep, "correct", method, FULL) for method in methods if method != FULL}
    keys = [tuple(row[name] for name in KEY) for row in rows]
    assert keys == sorted(expected)
    assert {row["method"] for row in rows if row["keep"] == "auto"} == {"prumerge"}


def test_differences_equal_a_slow_computation(found: tuple[dict, list[dict]]) -> None:
    sweep, rows = found
    for row in rows:
        first, second = hits(sweep, row, row["method"]), hits(sweep, row, row["versus"])
        # full is compared on the samples that the method answered
        on = {name for seed in first for name in seed} if row["versus"] == FULL else None
        expected = rate(first) - rate(second, on)
        if row["versus"] == FULL and len(first) > 1:  # each sample as often as it ran
            expected = rate(first) - float(np.mean([second[0][name][1] for seed in first for name in seed]))
        assert row["difference"] == pytest.approx(expected, abs=1e-12)
        assert row["low"] <= row["difference"] <= row["high"]


def test_p_is_the_share_of_all_swaps_by_image(found: tuple[dict, list[dict]]) -> None:
    sweep, rows = found
    for row in rows[::5]:
        first, second = hits(sweep, row, row["method"]), hits(sweep, row, row["versus"])
        common = set.intersection(*(set(seed) for seed in (*first, *second)))
        assert row["n"] == len(common)
        images: dict[str, float] = defaultdict(float)
        for name in common:
            image = first[0][name][0]
            images[image] += np.mean([seed[name][1] for seed in first]) - np.mean([seed[name][1] for seed in second])
        sums = np.array(list(product((1, -1), repeat=len(images)))) @ np.array(list(images.values()))
        assert row["p"] == pytest.approx(np.mean(np.abs(sums) >= abs(sum(images.values())) - 1e-9), abs=1e-12)


def test_mcnemar_counts_samples_that_only_one_has(found: tuple[dict, list[dict]]) -> None:
    sweep, rows = found
    for row in rows:
        if "random" in (row["method"], row["versus"]):  # two seeds
            assert row["mcnemar"] is row["mcnemar_mid"] is row["only_method"] is row["only_versus"] is None
            continue
        (first,), (second,) = hits(sweep, row, row["method"]), hits(sweep, row, row["versus"])
        pairs = [(first[name][1], second[name][1]) for name in set(first) & set(second)]
        b, c = pairs.count((True, False)), pairs.count((False, True))
        assert (row["only_method"], row["only_versus"]) == (b, c)
        tail = sum(comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
        assert row["mcnemar"] == pytest.approx(min(1, 2 * tail))
        if b != c:
            assert row["mcnemar_mid"] == pytest.approx(2 * tail - comb(b + c, min(b, c)) / 2 ** (b + c))


def test_the_reverse_comparison_is_the_mirror_image(found: tuple[dict, list[dict]]) -> None:
    _, rows = found
    by_pair = {tuple(row[name] for name in KEY): row for row in rows if row["versus"] != FULL}
    for (*place, method, versus), row in by_pair.items():
        mirror = by_pair[*place, versus, method]
        assert (row["difference"], row["low"]) == pytest.approx((-mirror["difference"], -mirror["high"]))
        assert (row["only_method"], row["n_images"]) == (mirror["only_versus"], mirror["n_images"])
        for name in ("p", "p_holm", "p_bh", "mcnemar", "n", "n_tests"):
            assert row[name] == mirror[name]


def test_p_is_adjusted_within_its_family(found: tuple[dict, list[dict]]) -> None:
    _, rows = found
    once = [row for row in rows if row["versus"] == FULL or row["method"] < row["versus"]]
    families, grids = defaultdict(list), defaultdict(list)
    for row in once:
        kind = row["basis"], row["versus"] == FULL
        families[row["model"], row["dataset"], *kind].append(row)
        grids[kind].append(row)
    for family in families.values():
        running = 0.0
        for place, row in enumerate(sorted(family, key=lambda row: row["p"])):
            running = max(running, min(1.0, row["p"] * (len(family) - place)))
            assert row["p_holm"] == pytest.approx(running)
            assert row["n_tests"] == len(family)
    for grid in grids.values():
        assert [row["p_bh"] for row in grid] == pytest.approx(false_discovery_control([row["p"] for row in grid]))
