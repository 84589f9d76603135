import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from lofi.stats.correlate import correlate


def cells(models=8, datasets=6, methods=5, keeps=4, seed=0):
    """Agreement and a spectral change that follow keep, each with noise of its own: methods play no part."""
    rng = np.random.default_rng(seed)
    model, dataset, _, keep = (
        axis.ravel() for axis in np.meshgrid(*map(np.arange, (models, datasets, methods, keeps)), indexing="ij")
    )
    model_dataset = model * datasets + dataset
    harm = (keep + 1) / keeps
    base = rng.normal(0, 0.03, models * datasets)[model_dataset]
    agreement = 0.95 + base - 0.3 * harm + rng.normal(0, 0.03, len(keep))
    change = 0.5 * harm + rng.normal(0, 0.08, len(keep))
    return change[:, None], agreement, model_dataset, model_dataset * keeps + keep


def test_keep_alone_makes_a_pooled_correlation_and_none_within():
    """Why the correlation within (model, dataset, keep) leads: the other two come out of nothing."""
    x, y, model_dataset, group = cells()
    pooled = correlate(x, y, np.zeros_like(group), model_dataset, seed=0)
    inside = correlate(x, y, model_dataset, model_dataset, seed=0)
    within = correlate(x, y, group, model_dataset, seed=0)
    assert pooled.n_cells == within.n_cells == 960
    assert (pooled.n_groups, inside.n_groups, within.n_groups) == (1, 48, 192)
    assert pooled.pearson[0] < -0.7
    assert inside.pearson[0] < -0.7
    assert abs(within.pearson[0]) < 0.1
    assert pooled.p[0] == pytest.approx(1 / 2001)
    assert within.p[0] > 0.05
    assert within.low[0] < 0 < within.high[0]
    assert pooled.high[0] < -0.6
    assert within.resampled == "model_dataset"


def test_a_null_p_is_uniform():
    p = []
    for seed in range(20):
        x, y, model_dataset, group = cells(models=3, datasets=2, keeps=2, seed=seed)
        noise = np.random.default_rng(seed).normal(size=(len(x), 20))
        p.append(correlate(noise, y, group, model_dataset, seed=seed).p)
    assert np.mean(np.concatenate(p) <= 0.05) == pytest.approx(0.05, abs=0.035)
    assert np.mean(p) == pytest.approx(0.5, abs=0.08)


def test_pooled_equals_scipy():
    rng = np.random.default_rng(1)
    y = rng.normal(size=40)
    x = np.column_stack([y + rng.normal(size=40), rng.normal(size=40), np.round(y, 0)])
    found = correlate(x, y, np.zeros(40, dtype=int), np.arange(40), seed=0)
    for at in range(3):
        assert found.pearson[at] == pytest.approx(pearsonr(x[:, at], y).statistic)
        assert found.spearman[at] == pytest.approx(spearmanr(x[:, at], y).statistic)
        assert found.low[at] < found.pearson[at] < found.high[at]
    assert found.p[0] < 0.01
    assert found.p[1] == pytest.approx(pearsonr(x[:, 1], y).pvalue, abs=0.05)


def test_within_groups_is_what_is_left_of_the_group_means():
    rng = np.random.default_rng(2)
    groups = rng.integers(0, 6, size=50)
    x, y = rng.normal(size=(50, 1)) + 5 * groups[:, None], rng.normal(size=50) - 3 * groups
    found = correlate(x, y, groups, groups, seed=0)
    a, b = x[:, 0].copy(), y.copy()
    for group in range(6):
        a[groups == group] -= a[groups == group].mean()
        b[groups == group] -= b[groups == group].mean()
    assert found.pearson[0] == pytest.approx(pearsonr(a, b).statistic)
    assert found.spearman[0] == pytest.approx(spearmanr(a, b).statistic)


def test_base_levels_of_groups_do_not_matter():
    x, y, model_dataset, group = cells(models=2, datasets=3)
    shifted = correlate(x + 7 * group[:, None], y - 3 * group, group, model_dataset, seed=0)
    plain = correlate(x, y, group, model_dataset, seed=0)
    assert shifted.pearson == pytest.approx(plain.pearson)
    assert shifted.p == pytest.approx(plain.p)
    assert shifted.low == pytest.approx(plain.low)


@pytest.mark.parametrize(
    ("groups", "blocks", "resampled"),
    [
        (np.arange(24) // 4, np.arange(24) // 4, "model_dataset"),
        (np.arange(24) // 4, np.arange(24) // 12, "group"),
        (np.arange(24) // 12, np.arange(24) // 12, "cell"),
        (np.zeros(24, dtype=int), np.arange(24) // 12, "cell"),
    ],
)
def test_the_interval_resamples_the_largest_unit_there_is_enough_of(groups, blocks, resampled):
    rng = np.random.default_rng(3)
    y = rng.normal(size=24)
    found = correlate(y[:, None] + rng.normal(size=(24, 1)), y, groups, blocks, seed=0)
    assert found.resampled == resampled
    assert -1 <= found.low[0] < found.pearson[0] < found.high[0] <= 1


def undefined(found, at=0):
    values = [getattr(found, name)[at] for name in ("pearson", "spearman", "p", "low", "high")]
    return np.isnan(values).all()


def test_what_is_undefined_says_why():
    rng = np.random.default_rng(4)
    y, x = rng.normal(size=6), rng.normal(size=(6, 2))
    one, each = np.zeros(6, dtype=int), np.arange(6)
    few = correlate(x[:2], y[:2], one[:2], one[:2], seed=0)
    single = correlate(x, y, each, one, seed=0)
    pair = correlate(x, y, np.array([0, 0, 1, 2, 3, 4]), one, seed=0)
    flat = correlate(x, np.full(6, 0.9), one, one, seed=0)
    for found, note in (
        (few, "fewer than 3 cells"),
        (single, "every group has one cell"),
        (pair, "fewer than 3 cells"),
        (flat, "agreement does not vary"),
    ):
        assert found.note == [note] * 2
        assert undefined(found)


def test_a_constant_column_is_undefined_beside_one_that_is_not():
    rng = np.random.default_rng(5)
    y = rng.normal(size=9)
    groups = np.arange(9) // 3
    x = np.column_stack([0.1 + 0.2 * groups, rng.normal(size=9), np.zeros(9)])  # the first only between groups
    found = correlate(x, y, groups, groups, seed=0)
    assert found.note == ["the statistic does not vary", None, "the statistic does not vary"]
    assert undefined(found, 0)
    assert undefined(found, 2)
    assert not undefined(found, 1)


def test_groups_of_one_are_left_out():
    rng = np.random.default_rng(6)
    y, x = rng.normal(size=12), rng.normal(size=(12, 1))
    groups = np.array([0, 0, 0, 1, 1, 1, 2, 3, 4, 5, 6, 7])
    found = correlate(x, y, groups, groups, seed=0)
    alone = correlate(x[:6], y[:6], groups[:6], groups[:6], seed=0)
    assert (found.n_cells, found.n_groups) == (6, 2)
    assert found.pearson == alone.pearson
    assert found.spearman == alone.spearman
