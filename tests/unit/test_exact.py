from itertools import product
from math import comb

import numpy as np
import pytest
from scipy.stats import binomtest

from lofi.stats.exact import RESOLUTION, clopper_pearson, mcnemar, swap_p


@pytest.mark.parametrize(("hits", "trials"), [(0, 7), (7, 7), (1, 40), (13, 200), (1999, 2000)])
def test_clopper_pearson_is_that_of_scipy(hits, trials):
    low, high = clopper_pearson(np.array([float(hits)]), np.array([float(trials)]))
    expected = binomtest(hits, trials).proportion_ci(0.95, method="exact")
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_clopper_pearson_gives_the_widths_that_reviewers_know():
    # Rate 0 and 1 % of 500, 1,000 and 9,000 samples, in percent.
    low, high = clopper_pearson(np.array([0.0, 10.0, 90.0]), np.array([500.0, 1000.0, 9000.0]))
    assert (100 * high).round(1).tolist() == [0.7, 1.8, 1.2]
    assert (100 * low).round(1).tolist() == [0.0, 0.5, 0.8]


@pytest.mark.parametrize(("b", "c"), [(0, 0), (0, 1), (3, 3), (2, 9), (17, 4), (0, 12), (40, 61)])
def test_mcnemar_equals_the_sums_of_binomial_chances(b, c):
    n, least = b + c, min(b, c)
    chances = [comb(n, k) / 2**n for k in range(n + 1)]
    exact, mid = mcnemar(b, c)
    assert exact == pytest.approx(min(1.0, 2 * sum(chances[: least + 1])), rel=1e-12)
    assert exact == pytest.approx(binomtest(b, n).pvalue if n else 1.0, rel=1e-9)
    both_tails = 2 * sum(chances[:least]) + 2 * chances[least] / 2
    assert mid == pytest.approx(1.0 if b == c else both_tails, rel=1e-12)
    assert mid <= exact


@pytest.mark.parametrize("seed", range(12))
def test_the_swap_test_is_the_count_of_all_swaps(seed):
    rng = np.random.default_rng(seed)
    differences = rng.integers(-6, 7, size=rng.integers(1, 13)) * rng.integers(1, 4)
    sums = np.array(list(product((1, -1), repeat=len(differences)))) @ differences
    expected = np.mean(np.abs(sums) >= abs(differences.sum()))
    assert swap_p(differences) == pytest.approx(expected, abs=1e-12)
    assert swap_p(-differences) == swap_p(differences)


def test_the_swap_test_of_single_samples_is_mcnemar():
    for b, c in ((3, 11), (40, 71), (500, 420), (0, 30)):
        differences = np.concatenate([np.ones(b), -np.ones(c), np.zeros(9)]).astype(np.int64)
        assert swap_p(differences) == pytest.approx(mcnemar(b, c)[0], abs=1e-12)


def test_the_swap_test_says_nothing_without_a_difference_and_has_a_least_p():
    assert swap_p(np.zeros(5, dtype=np.int64)) == 1
    assert swap_p(np.array([1, -1, 2, -2])) == 1
    assert swap_p(np.ones(3000, dtype=np.int64)) == RESOLUTION


def test_the_swap_test_rejects_as_often_as_it_says():
    # No difference in truth, three questions an image that go together.
    rng = np.random.default_rng(1)
    found = []
    for _ in range(400):
        together = rng.random((80, 2)) < 0.3
        counts = np.where(together, 3, rng.binomial(3, 0.2, size=(80, 2)))
        found.append(swap_p(counts[:, 0] - counts[:, 1]))
    assert 0.025 <= np.mean(np.array(found) <= 0.05) <= 0.08
