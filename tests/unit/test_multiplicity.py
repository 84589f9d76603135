import numpy as np
import pytest

from lofi.stats.multiplicity import benjamini_hochberg, holm


def test_holm_worked_by_hand():
    # 0.01 * 4, 0.02 * 3, 0.03 * 2, and 0.04 * 1, which may not fall below the one before.
    assert holm(np.array([0.04, 0.01, 0.03, 0.02])) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm(np.array([0.5, 0.6])) == pytest.approx([1.0, 1.0])


def test_benjamini_hochberg_worked_by_hand_and_by_its_definition():
    # 0.01 * 4 / 1, 0.02 * 4 / 2 and so on: all 0.04
    assert benjamini_hochberg(np.array([0.04, 0.01, 0.03, 0.02])) == pytest.approx([0.04] * 4)
    p = np.random.default_rng(0).random(50) ** 3
    p[:5] = p[5:10]  # ties
    ranked = sorted(p)
    least = [min(50 * ranked[j] / (j + 1) for j in range(i, 50)) for i in range(50)]
    assert sorted(benjamini_hochberg(p)) == pytest.approx([min(1.0, value) for value in least])


def test_what_is_not_defined_is_no_test():
    p = np.array([np.nan, 0.01, 0.02, np.nan])
    np.testing.assert_allclose(holm(p), [np.nan, 0.02, 0.02, np.nan])
    np.testing.assert_allclose(benjamini_hochberg(p), [np.nan, 0.02, 0.02, np.nan])
    assert holm(np.empty(0)).size == benjamini_hochberg(np.empty(0)).size == 0


def test_holm_keeps_the_chance_of_any_false_claim():
    rng = np.random.default_rng(3)
    claims = [(holm(rng.random(10)) <= 0.05).any() for _ in range(2000)]
    assert 0.035 <= np.mean(claims) <= 0.065
