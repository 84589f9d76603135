import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap

from lofi.stats.resample import (
    bca_interval,
    draw_counts,
    draws_of_blocks,
    draws_within,
    percentile_interval,
    permutations,
    rate_draws,
    rate_intervals,
    sum_bounds,
    weights,
)


def column(values):
    return np.asarray(values, dtype=np.float64)[:, None]


def test_draws_are_multinomial():
    blocks = list(draw_counts(5, 20_000, np.random.default_rng(0)))
    counts = np.concatenate(blocks)
    assert counts.shape == (20_000, 5)
    assert (counts.sum(axis=1) == 5).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(5), abs=0.03)
    assert counts.var(axis=0) == pytest.approx(np.full(5, 0.8), abs=0.03)  # n p (1 - p)


def test_draws_do_not_depend_on_the_size_of_blocks(monkeypatch):
    whole = np.concatenate(list(draw_counts(7, 100, np.random.default_rng(3))))
    monkeypatch.setattr("lofi.stats.resample.BLOCK_VALUES", 70)
    blocks = list(draw_counts(7, 100, np.random.default_rng(3)))
    assert len(blocks) == 10
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_interval_of_independent_samples_is_the_normal_one():
    n, p = 2000, 0.3
    hits = column(np.arange(n) < p * n)
    low, high = rate_intervals(hits, np.ones((n, 1)), 4000, seed=1)
    half = 1.96 * np.sqrt(p * (1 - p) / n)
    assert low[0] == pytest.approx(p - half, abs=0.1 * half)
    assert high[0] == pytest.approx(p + half, abs=0.1 * half)


def test_interval_knows_that_questions_about_one_image_go_together():
    # 200 images whose 10 questions are all right or all wrong: as little is known as from 200 samples.
    right = column(np.arange(200) < 100) * 10
    low, high = rate_intervals(right, np.full((200, 1), 10.0), 4000, seed=1)
    half = 1.96 * np.sqrt(0.25 / 200)
    assert high[0] - low[0] == pytest.approx(2 * half, rel=0.1)


def test_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(5)
    covered = []
    for seed in range(200):
        rate = rng.beta(6, 4, size=60)  # each image has its own rate; the mean is 0.6
        size = rng.integers(1, 8, size=60)
        low, high = rate_intervals(column(rng.binomial(size, rate)), column(size), 300, seed=seed)
        covered.append(low[0] <= 0.6 <= high[0])
    assert 0.88 <= np.mean(covered) <= 0.99


def test_all_rates_see_the_same_draws():
    rng = np.random.default_rng(0)
    hits = column(rng.binomial(3, 0.4, size=50))
    both = np.hstack([hits, 3 - hits])  # a rate and one minus it
    low, high = rate_intervals(both, np.full((50, 2), 3.0), 500, seed=2)
    assert low[1] == pytest.approx(1 - high[0])
    assert high[1] == pytest.approx(1 - low[0])


def test_no_spread_gets_the_exact_binomial_interval():
    low, high = rate_intervals(
        np.hstack([np.zeros((100, 1)), np.full((100, 1), 3.0)]), np.full((100, 2), 3.0), 50, seed=0
    )
    assert (low[0], high[1]) == (0, 1)
    assert high[0] == pytest.approx(1 - 0.025 ** (1 / 100))
    assert low[1] == pytest.approx(0.025 ** (1 / 100))


def test_fewer_than_two_clusters_have_no_interval():
    sizes = np.array([[3.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    low, high = rate_intervals(sizes * 0.5, sizes, 100, seed=0)
    assert np.isnan([*low, *high]).all()
    assert np.isnan(rate_intervals(np.empty((0, 2)), np.empty((0, 2)), 100, seed=0)).all()


def test_percentiles_leave_out_undefined_draws():
    draws = np.column_stack([np.linspace(0, 1, 1001), np.full(1001, np.nan)])
    draws[:100, 0] = np.nan
    low, high = percentile_interval(draws)
    assert (low[0], high[0]) == pytest.approx((0.1 + 0.9 * 0.025, 1 - 0.9 * 0.025), abs=1e-3)
    assert np.isnan(low[1])
    assert np.isnan(high[1])


def test_permutations_stay_inside_their_groups():
    groups = np.array([2, 0, 2, 1, 0, 2])
    orders = np.concatenate(list(permutations(groups, 3000, np.random.default_rng(0))))
    assert orders.shape == (3000, 6)
    assert (np.sort(orders, axis=1) == np.arange(6)).all()
    assert (groups[orders] == groups).all()
    for place, reached in ((0, (0, 2, 5)), (1, (1, 4)), (3, (3,))):
        values, counts = np.unique(orders[:, place], return_counts=True)
        assert tuple(values) == reached
        assert counts == pytest.approx(np.full(len(reached), 3000 / len(reached)), rel=0.1)


def test_draws_within_groups_keep_each_group_s_size():
    groups = np.array([0, 0, 0, 1, 1])
    counts = draws_within(groups, 200, np.random.default_rng(0))
    assert (counts[:, :3].sum(axis=1) == 3).all()
    assert (counts[:, 3:].sum(axis=1) == 2).all()


def test_draws_of_blocks_take_them_whole():
    counts = draws_of_blocks(np.array([7, 7, 9, 9, 9, 3]), 200, np.random.default_rng(0))
    assert (counts[:, 0] == counts[:, 1]).all()
    assert (counts[:, 2] == counts[:, 4]).all()
    assert (counts[:, [0, 2, 5]].sum(axis=1) == 3).all()


def test_a_rate_of_samples_that_each_are_a_cluster_gets_the_exact_binomial_interval():
    hits, known = column([1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]), column([1] * 10 + [0, 0])
    low, high = rate_intervals(hits, known, 50, seed=0)
    exact = binomtest(3, 10).proportion_ci(0.95, method="exact")
    assert (low[0], high[0]) == pytest.approx((exact.low, exact.high), rel=1e-12)


def test_bca_is_that_of_scipy_on_the_same_draws():
    rng = np.random.default_rng(7)
    sizes = rng.integers(1, 6, size=25).astype(np.float64)
    hits = rng.binomial(sizes.astype(int), 0.85).astype(np.float64)
    low, high = rate_intervals(hits[:, None], sizes[:, None], 999, seed=11)
    expected = bootstrap(
        (hits, sizes),
        lambda x, y, axis=-1: x.sum(axis=axis) / y.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=999,
        method="BCa",
        rng=np.random.default_rng(11),
    ).confidence_interval
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), rel=1e-9)
    plain = percentile_interval(rate_draws(hits[:, None], sizes[:, None], 999, seed=11))
    assert abs(low[0] - plain[0][0]) > 1e-3  # what the correction does


def test_without_a_defined_correction_the_interval_is_the_percentile_one():
    draws = np.random.default_rng(0).random((500, 3))
    observed = np.array([0.5, 2.0, 0.5])  # the second lies beyond every draw, the third has no acceleration
    low, high = bca_interval(draws, observed, np.array([0.02, 0.02, np.nan]))
    plain = percentile_interval(draws)
    assert (low[1:] == plain[0][1:]).all()
    assert (high[1:] == plain[1][1:]).all()
    assert low[0] != plain[0][0]


def test_weights_are_made_once_and_cannot_be_changed():
    first = weights(9, 40, 3)
    assert weights(9, 40, 3) is first
    assert (first.sum(axis=1) == 9).all()
    np.testing.assert_array_equal(first, np.concatenate(list(draw_counts(9, 40, np.random.default_rng(3)))))
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1


def bounds_of(numerators, denominators, sums, draws, seed):
    return sum_bounds(rate_draws(numerators, denominators, draws, seed), numerators, denominators, sums)


def test_the_interval_of_a_sum_is_that_of_its_rates_together():
    rng = np.random.default_rng(2)
    hits = rng.binomial(3, 0.6, size=(400, 1)).astype(np.float64)
    both = np.concatenate([hits, hits], axis=1)  # the same rate twice: all its draws move together
    low, high = bounds_of(both, np.full((400, 2), 3.0), [[(0, 100.0), (1, 100.0)], [(1, 1.0)]], 500, seed=1)
    one_low, one_high = rate_intervals(hits, np.full((400, 1), 3.0), 500, seed=1)
    assert [low[1], high[1]] == [one_low[0], one_high[0]]
    assert [low[0], high[0]] == pytest.approx([200 * one_low[0], 200 * one_high[0]])


def test_a_sum_of_rates_that_no_draw_moves_gets_their_exact_bounds():
    ones, zeros = np.ones((20, 2)), np.zeros((20, 1))
    low, high = bounds_of(ones, ones, [[(0, 0.5), (1, 0.5)]], 100, seed=0)
    alone = rate_intervals(ones, ones, 100, seed=0)
    assert [low[0], high[0]] == pytest.approx([alone[0][0], 1.0])
    low, high = bounds_of(zeros, ones[:, :1], [[(0, 200.0)]], 100, seed=0)
    assert low[0] == 0
    assert high[0] > 200 * 0.1


def test_a_sum_with_a_rate_of_one_cluster_has_no_interval():
    denominators = np.ones((5, 2))
    denominators[1:, 1] = 0
    low, high = bounds_of(np.zeros((5, 2)), denominators, [[(0, 1.0), (1, 1.0)], [(0, 1.0)]], 100, seed=0)
    assert np.isnan([low[0], high[0]]).all()
    assert np.isfinite([low[1], high[1]]).all()
