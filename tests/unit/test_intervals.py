"""How often intervals hold what is true, by simulation, and what seeds add to them."""

import numpy as np
import pytest

from lofi.stats import intervals
from lofi.stats.blocks import Answers, Block, Sums, pooled
from lofi.stats.comparisons import compared
from lofi.stats.resample import drawn_sums, rate_intervals

DRAWS = 500


def covered(rng, images, simulations, true, make):
    """Share of simulations whose 95 % interval holds the truth."""
    hits, sizes = zip(*(make(rng) for _ in range(simulations)), strict=True)
    found = [
        rate_intervals(a[:, None].astype(float), b[:, None].astype(float), DRAWS, seed=seed)
        for seed, (a, b) in enumerate(zip(hits, sizes, strict=True))
    ]
    assert all(len(a) == images for a in hits)
    return np.mean([low[0] <= true <= high[0] for low, high in found])


def test_clustered_rates_are_covered():
    def together(rng):  # every image has a rate of its own; the mean is 0.8
        sizes = np.full(60, 4)
        return rng.binomial(sizes, rng.beta(4, 1, size=60)), sizes

    assert 0.92 <= covered(np.random.default_rng(1), 60, 400, 0.8, together) <= 0.98


def test_rare_clustered_flips_are_covered():
    def rare(rng):  # 2 % of samples, half of them all three questions of an image at once
        whole, alone = rng.random(200) < 0.01, rng.binomial(3, 0.01, size=200)
        return np.where(whole, 3, alone), np.full(200, 3)

    truth = 0.01 + 0.99 * 0.01
    assert 0.91 <= covered(np.random.default_rng(2), 200, 400, truth, rare) <= 0.98


def test_samples_without_clusters_are_covered_at_least_as_often_as_said():
    def alone(rng):
        return rng.binomial(1, 0.03, size=100), np.ones(100)

    assert 0.95 <= covered(np.random.default_rng(3), 100, 300, 0.03, alone) <= 1


def block_of(agreed, methods):
    """A block of cells, agreed: (images, cells), that agree in so many of three questions about every image."""
    images, n = agreed.shape
    sums = np.zeros((images, n, 6))
    sums[:, :, 0] = sums[:, :, 2] = 3
    sums[:, :, 1] = sums[:, :, 3] = agreed
    of_cells = Sums(sums, drawn_sums(sums.reshape(images, -1), 2000, 0).reshape(2000, n, 6))
    names = tuple(dict.fromkeys(methods))
    members = tuple(tuple(at for at, one in enumerate(methods) if one == name) for name in names)
    agrees = (np.arange(3)[None, :, None] < agreed[:, None, :]).reshape(-1, n).T
    every = np.ones_like(agrees)
    answers = Answers(np.repeat(np.arange(images), 3), every, agrees, every, agrees, every)
    cells = tuple(range(1, n + 1))
    return Block("m", "d", "0.2500", cells, names, members, of_cells, pooled(of_cells, members, 0), answers)


def width(table, method):
    row = next(row for row in table.to_pylist() if row["method"] == method)
    return row["agreement_high"] - row["agreement_low"]


def test_seeds_that_differ_widen_the_interval_of_their_method():
    rng = np.random.default_rng(4)
    alike = rng.binomial(3, 0.6, size=(150, 5))
    apart = rng.binomial(3, np.array([0.3, 0.45, 0.6, 0.75, 0.9]), size=(150, 5))
    block = block_of(np.hstack([alike, apart]), ["alike"] * 5 + ["apart"] * 5)
    table = intervals.of_methods(block)
    images_alone = rate_intervals(apart.sum(axis=1)[:, None].astype(float), np.full((150, 1), 15.0), 2000, seed=0)
    assert width(table, "apart") > 3 * (images_alone[1][0] - images_alone[0][0])
    assert width(table, "alike") < width(table, "apart") / 3
    # Five seeds with a spread of 0.21: 1.96 * 0.21 / sqrt(5) on either side.
    assert width(table, "apart") == pytest.approx(2 * 1.96 * 0.21 / np.sqrt(5), rel=0.2)


def test_a_single_seed_has_the_bounds_of_its_cell():
    agreed = np.random.default_rng(5).binomial(3, 0.7, size=(80, 2))
    block = block_of(agreed, ["a", "b"])
    cells, methods = intervals.of_cells(block).to_pylist(), intervals.of_methods(block).to_pylist()
    for cell, method in zip(cells, methods, strict=True):
        assert {name: method[name] for name in cell if name != "cell_id"} == {
            name: value for name, value in cell.items() if name != "cell_id"
        }


def test_methods_that_answer_alike_differ_by_less_than_images_can_tell():
    agreed = np.random.default_rng(6).binomial(3, 0.7, size=(80, 1))
    found = compared(block_of(np.hstack([agreed, agreed]), ["a", "b"]))[0]
    assert (found.difference, found.tested.p, found.tested.mcnemar) == (0, 1, 1)
    unseen = 1 - 0.025 ** (1 / 80)
    assert (found.low, found.high) == pytest.approx((-unseen, unseen))


def test_a_paired_difference_is_surer_than_two_rates():
    rng = np.random.default_rng(7)
    hard = rng.random(120)[:, None] < 0.5  # the same images are hard for both
    agreed = np.where(hard, rng.binomial(3, [[0.2, 0.3]], size=(120, 2)), 3)
    block = block_of(agreed, ["a", "b"])
    found = compared(block)[0]
    rates = intervals.of_methods(block)
    assert found.high - found.low < 0.8 * np.hypot(width(rates, "a"), width(rates, "b"))
