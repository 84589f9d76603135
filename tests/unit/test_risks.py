"""Upper bounds of risks: exact where samples are alone on their image, and never too low where they are not."""

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from lofi.stats.risks import BETS, Counts, counts_of, images_needed, p_value, upper_bound


def counts(samples, events):
    """From one entry per image."""
    pairs, images = np.unique(np.stack([samples, events]), axis=1, return_counts=True)
    return Counts(pairs[0].astype(float), pairs[1].astype(float), images.astype(float))


def alone(events, n):
    return counts(np.ones(n, int), np.arange(n) < events)


def drawn(rng, sizes, rate, correlation):
    """Samples that went wrong on each image: beta-binomial, or whole images where the correlation is 1."""
    if correlation == 1:
        return sizes * rng.binomial(1, rate, len(sizes))
    if correlation:
        strength = (1 - correlation) / correlation
        rate = rng.beta(rate * strength, (1 - rate) * strength, len(sizes))
    return rng.binomial(sizes, rate)


@pytest.mark.parametrize(("n", "percent"), [(500, 0.60), (1000, 0.30), (3000, 0.10)])
def test_no_event_in_so_many_samples(n, percent):
    assert round(100 * upper_bound(alone(0, n), 0.95), 2) == percent


@pytest.mark.parametrize(("events", "n"), [(0, 1), (1, 1), (0, 20), (3, 20), (19, 20), (20, 20), (12, 900)])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_the_exact_bound_is_that_of_scipy(events, n, confidence):
    expected = binomtest(events, n, alternative="less").proportion_ci(confidence, "exact").high
    assert upper_bound(alone(events, n), confidence) == pytest.approx(expected, abs=1e-12)


def test_the_p_value_equals_a_slow_computation():
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 7, 80)
    events = drawn(rng, sizes, 0.03, 0.2)
    for limit in (0.05, 0.1, 0.3):
        stake = 0.0
        for bet, share in BETS:
            bet /= (1 - limit) * 6
            stake += share * math.prod(1 - bet * (e - limit * n) for n, e in zip(sizes, events, strict=True))
        assert p_value(counts(sizes, events), limit) == pytest.approx(min(1, 1 / stake))


def test_stakes_add_up_and_no_bet_can_ruin_by_less_than_a_whole_image():
    assert sum(share for _, share in BETS) == 1
    assert all(0 < bet <= 1 for bet, _ in BETS)
    # one whole image wrong: the highest bet is lost, the others go on
    assert 0 < p_value(counts(np.full(900, 3), np.where(np.arange(900) < 1, 3, 0)), 0.02) < 0.05


@pytest.mark.parametrize("limit", [0.02, 0.1])
@pytest.mark.parametrize("correlation", [0, 0.3, 1])
@pytest.mark.parametrize("sizes", [(4,), (1, 2, 9), (18,)], ids=str)
def test_a_risk_at_the_limit_passes_no_more_often_than_stated(limit, correlation, sizes):
    rng = np.random.default_rng([round(1000 * limit), int(10 * correlation), *sizes])
    passed = 0
    for _ in range(400):
        n = rng.choice(sizes, 250)
        passed += p_value(counts(n, drawn(rng, n, limit, correlation)), limit) <= 0.05
    assert passed <= 400 * 0.05 + 3 * math.sqrt(400 * 0.05 * 0.95)


def test_large_images_may_be_the_bad_ones():
    """Sizes and rates that go together: what goes wrong lies on the few large images."""
    rng, passed = np.random.default_rng(5), 0
    for _ in range(400):
        n = rng.choice([1, 10], 300, p=[0.9, 0.1])
        events = np.where(n == 10, 10 * rng.binomial(1, 0.038, 300), 0)  # 10 * 0.1 * 0.038 of 1.9 samples: 2 %
        passed += p_value(counts(n, events), 0.02) <= 0.05
    assert passed <= 400 * 0.05 + 3 * math.sqrt(400 * 0.05 * 0.95)


def test_why_not_the_binomial_bound_of_all_samples():
    """The mistake that the bound is there to avoid: at the limit it would pass five times as often as stated."""
    rng, naive = np.random.default_rng(2), 0
    for _ in range(400):
        events = drawn(rng, np.full(200, 4), 0.02, 1)
        naive += binom.cdf(events.sum(), 800, 0.02) <= 0.05
    assert naive > 400 * 0.2


def test_a_low_rate_passes():
    rng, passed = np.random.default_rng(3), 0
    for _ in range(100):
        n = np.full(500, 6)
        passed += upper_bound(counts(n, drawn(rng, n, 0.005, 0.1)), 0.95) <= 0.02
    assert passed >= 95


def test_the_bound_is_where_the_p_value_crosses_and_never_below_the_rate():
    rng = np.random.default_rng(4)
    for most in (1, 5):
        for rate in (0.0, 0.05, 0.5, 1.0):
            n = rng.integers(1, most + 1, 60)
            found = counts(n, rng.binomial(n, rate))
            upper = upper_bound(found, 0.9)
            assert found.rate <= upper <= 1
            assert upper <= upper_bound(found, 0.95)
            if upper < 1:
                assert p_value(found, upper) == pytest.approx(0.1)
                limits = np.linspace(0.001, 0.999, 50)
                assert np.all(np.diff([p_value(found, limit) for limit in limits]) <= 1e-12)


@pytest.mark.parametrize("found", [alone(0, 50), alone(1, 200), counts(np.full(60, 4), np.arange(60) < 2)])
def test_images_needed_are_just_enough(found):
    needed = images_needed(found, 0.02, 0.95)
    assert p_value(found.scaled(needed), 0.02) <= 0.05 < p_value(found.scaled(needed - 1), 0.02)


def test_images_needed_without_an_event():
    assert images_needed(alone(0, 10), 0.02, 0.95) == 149 == math.ceil(math.log(0.05) / math.log(0.98))
    stakes = (sum(share * (1 + bet * 0.02 / 0.98) ** n for bet, share in BETS) for n in range(1000))
    expected = next(n for n, stake in enumerate(stakes) if stake >= 20)
    assert images_needed(counts(np.full(10, 4), np.zeros(10, int)), 0.02, 0.95) == expected


def test_no_number_of_images_helps_a_rate_near_or_above_the_limit():
    assert images_needed(alone(4, 100), 0.02, 0.95) is None
    near = counts(np.full(1000, 4), np.where(np.arange(1000) < 19, 4, 0))
    assert images_needed(near, 0.02, 0.95) is None


def test_patterns_are_read_as_stored():
    stored = [{"samples": 2, "events": 0, "images": 5}, {"samples": 3, "events": 1, "images": 2}]
    found = counts_of(stored)
    assert (found.n, found.n_images, found.rate) == (16, 7, 2 / 16)
