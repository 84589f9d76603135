import numpy as np
import pytest
from scipy.stats import kendalltau, pearsonr, spearmanr

from lofi.stats import shuffles
from lofi.stats.correlate import PERMUTATIONS, Layout, correlate


def cells(models=8, datasets=6, methods=5, keeps=4, seed=0, effect=0.0):
    """Agreement and a spectral change that follow keep, each with noise of its own: methods play no part.

    effect: how much agreement a method loses for a unit of its own part of the change.
    """
    rng = np.random.default_rng(seed)
    model, dataset, _, keep = (
        axis.ravel() for axis in np.meshgrid(*map(np.arange, (models, datasets, methods, keeps)), indexing="ij")
    )
    model_dataset = model * datasets + dataset
    harm = (keep + 1) / keeps
    base = rng.normal(0, 0.037, models * datasets)[model_dataset]
    agreement = 0.95 + base - 0.3 * harm + rng.normal(0, 0.025, len(keep))
    own = rng.normal(0, 0.05, len(keep))
    change, agreement = 0.5 * harm + own, agreement - effect * own
    return change[:, None], agreement, model_dataset, model_dataset * keeps + keep


def test_keep_alone_makes_a_pooled_correlation_and_none_within():
    """Why the correlation within (model, dataset, keep) leads: the other two come out of nothing."""
    x, y, model_dataset, group = cells()
    pooled = correlate(x, y, Layout(np.zeros_like(group), model_dataset), seed=0)
    inside = correlate(x, y, Layout(model_dataset, model_dataset), seed=0)
    within = correlate(x, y, Layout(group, model_dataset), seed=0)
    assert pooled.n_cells == within.n_cells == 960
    assert (pooled.n_groups, inside.n_groups, within.n_groups) == (1, 48, 192)
    assert pooled.pearson[0] == pytest.approx(-0.83, abs=0.03)
    assert inside.pearson[0] == pytest.approx(-0.90, abs=0.02)
    assert within.pearson[0] == pytest.approx(0, abs=0.05)
    assert pooled.p[0] == pytest.approx(1 / (1 + PERMUTATIONS))
    assert within.p[0] > 0.05
    assert within.low[0] < 0 < within.high[0]
    assert pooled.high[0] < -0.75
    assert within.resampled == "model_dataset"


def test_a_null_p_is_uniform():
    p = []
    for seed in range(20):
        x, y, model_dataset, group = cells(models=3, datasets=2, keeps=2, seed=seed)
        noise = np.random.default_rng(seed).normal(size=(len(x), 20))
        p.append(correlate(noise, y, Layout(group, model_dataset), seed=seed).p)
    assert np.mean(np.concatenate(p) <= 0.05) == pytest.approx(0.05, abs=0.035)
    assert np.mean(p) == pytest.approx(0.5, abs=0.08)


def test_pooled_equals_scipy():
    rng = np.random.default_rng(1)
    y = rng.normal(size=40)
    x = np.column_stack([y + rng.normal(size=40), rng.normal(size=40), np.round(y, 0)])
    found = correlate(x, y, Layout(np.zeros(40, dtype=int), np.arange(40)), seed=0)
    for at in range(3):
        assert found.pearson[at] == pytest.approx(pearsonr(x[:, at], y).statistic)
        assert found.spearman[at] == pytest.approx(spearmanr(x[:, at], y).statistic)
        assert found.kendall[at] == pytest.approx(kendalltau(x[:, at], y).statistic)
        assert found.low[at] < found.pearson[at] < found.high[at]
    assert found.p[0] < 0.01
    assert found.p[1] == pytest.approx(pearsonr(x[:, 1], y).pvalue, abs=0.05)


def test_within_groups_is_what_is_left_of_the_group_means():
    rng = np.random.default_rng(2)
    groups = rng.integers(0, 6, size=50)
    x, y = rng.normal(size=(50, 1)) + 5 * groups[:, None], rng.normal(size=50) - 3 * groups
    found = correlate(x, y, Layout(groups, groups), seed=0)
    a, b = x[:, 0].copy(), y.copy()
    for group in range(6):
        a[groups == group] -= a[groups == group].mean()
        b[groups == group] -= b[groups == group].mean()
    assert found.pearson[0] == pytest.approx(pearsonr(a, b).statistic)
    assert found.spearman[0] == pytest.approx(spearmanr(a, b).statistic)


def test_base_levels_of_groups_do_not_matter():
    x, y, model_dataset, group = cells(models=2, datasets=3)
    shifted = correlate(x + 7 * group[:, None], y - 3 * group, Layout(group, model_dataset), seed=0)
    plain = correlate(x, y, Layout(group, model_dataset), seed=0)
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
    found = correlate(y[:, None] + rng.normal(size=(24, 1)), y, Layout(groups, blocks), seed=0)
    assert found.resampled == resampled
    assert -1 <= found.low[0] < found.pearson[0] < found.high[0] <= 1


def undefined(found, at=0):
    values = [getattr(found, name)[at] for name in ("pearson", "spearman", "kendall", "p", "p_methods", "low", "high")]
    return np.isnan(values).all()


def test_what_is_undefined_says_why():
    rng = np.random.default_rng(4)
    y, x = rng.normal(size=6), rng.normal(size=(6, 2))
    one, each = np.zeros(6, dtype=int), np.arange(6)
    few = correlate(x[:2], y[:2], Layout(one[:2], one[:2]), seed=0)
    single = correlate(x, y, Layout(each, one), seed=0)
    pair = correlate(x, y, Layout(np.array([0, 0, 1, 2, 3, 4]), one), seed=0)
    flat = correlate(x, np.full(6, 0.9), Layout(one, one), seed=0)
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
    found = correlate(x, y, Layout(groups, groups), seed=0)
    assert found.note == ["the statistic does not vary", None, "the statistic does not vary"]
    assert undefined(found, 0)
    assert undefined(found, 2)
    assert not undefined(found, 1)


def test_groups_of_one_are_left_out():
    rng = np.random.default_rng(6)
    y, x = rng.normal(size=12), rng.normal(size=(12, 1))
    groups = np.array([0, 0, 0, 1, 1, 1, 2, 3, 4, 5, 6, 7])
    found = correlate(x, y, Layout(groups, groups), seed=0)
    alone = correlate(x[:6], y[:6], Layout(groups[:6], groups[:6]), seed=0)
    assert (found.n_cells, found.n_groups) == (6, 2)
    assert found.pearson == alone.pearson
    assert found.spearman == alone.spearman


def test_partial_is_the_correlation_of_what_keep_and_groups_leave():
    rng = np.random.default_rng(7)
    groups, ln_keep = np.arange(60) // 12, np.log(rng.uniform(0.05, 1, 60))
    x, y = rng.normal(size=60) + 2 * ln_keep + groups, rng.normal(size=60) + ln_keep - groups
    found = correlate(x[:, None], y, Layout(groups, groups, covariate=ln_keep), seed=0)
    design = np.column_stack([np.eye(5)[groups], ln_keep])
    a, b = (side - design @ np.linalg.lstsq(design, side, rcond=None)[0] for side in (x, y))
    assert found.pearson[0] == pytest.approx(pearsonr(a, b).statistic)
    assert found.kendall[0] == pytest.approx(kendalltau(a, b).statistic)
    only_keep = correlate(ln_keep[:, None], y, Layout(groups, groups, covariate=ln_keep), seed=0)
    assert only_keep.note == ["the statistic does not vary"]


def test_a_covariate_that_does_not_vary_changes_nothing():
    x, y, model_dataset, group = cells(models=2, datasets=2)
    plain = correlate(x, y, Layout(group, model_dataset), seed=0)
    same = correlate(x, y, Layout(group, model_dataset, covariate=np.full(len(y), -1.5)), seed=0)
    assert same.pearson == plain.pearson


def test_a_planted_effect_of_methods_is_found_against_the_keep():
    """Methods that shift the spectrum more keep more answers, while keep makes the pooled correlation negative."""
    x, y, model_dataset, group = cells(models=2, datasets=3, effect=-0.3)
    assert correlate(x, y, Layout(np.zeros_like(group), model_dataset), seed=0).pearson[0] < -0.5
    found = correlate(x, y, Layout(group, model_dataset), seed=0)
    assert found.low[0] > 0.2
    assert found.p[0] < 0.001
    power = [
        correlate(*cells(models=2, datasets=3, effect=0.2, seed=seed)[:2], Layout(group, model_dataset), seed=0).p[0]
        for seed in range(20)
    ]
    assert sum(p < 0.05 for p in power) >= 18


def test_what_is_peculiar_to_a_method_everywhere_counts_once():
    """Six methods, each with one shift and one agreement in all of 40 groups: that is six points, not 240."""
    p, p_methods = [], []
    methods, groups = (axis.ravel() for axis in np.meshgrid(np.arange(6), np.arange(40), indexing="ij"))
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(6, 3))[methods] + rng.normal(0, 0.3, (240, 3))
        y = rng.normal(size=6)[methods] + rng.normal(0, 0.3, 240)
        found = correlate(x, y, Layout(groups, groups // 10, methods=methods), seed=0)
        p += found.p.tolist()
        p_methods += found.p_methods.tolist()
    assert np.mean(np.array(p) < 0.05) > 0.5
    assert np.mean(np.array(p_methods) < 0.05) < 0.15


def test_methods_change_places_alike_in_every_group():
    groups = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    methods = np.array([2, 5, 9, 9, 2, 5, 9, 2])
    for order in next(shuffles.of_methods(groups, methods, 50, np.random.default_rng(0))):
        assert (groups[order] == groups).all()
        taken = [dict(zip(methods[groups == g], methods[order][groups == g], strict=True)) for g in range(3)]
        assert taken[0] == taken[1]
        assert sorted(taken[2].values()) == [2, 9]


def test_clusters_stay_together_and_change_places_with_those_of_their_size():
    groups = np.array([0, 0, 0, 0, 0, 0, 0, 1, 1])
    clusters = np.array([4, 7, 4, 7, 2, 2, 2, 8, 8])
    seen = set()
    for order in next(shuffles.of_clusters(groups, clusters, 200, np.random.default_rng(0))):
        assert sorted(order) == list(range(9))
        assert (groups[order] == groups).all()
        for name in (2, 4, 7, 8):
            (came_from,) = set(clusters[order][clusters == name])
            seen.add((name, came_from))
    assert seen == {(2, 2), (4, 4), (4, 7), (7, 4), (7, 7), (8, 8)}


def test_a_shared_baseline_makes_no_false_findings():
    """Cells of one keep lose the same noisy baseline on both sides; shuffles that ignore it find too much."""
    naive, kept = [], []
    clusters = np.arange(200) // 5
    groups = clusters // 10
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(200, 5)) - rng.normal(size=(40, 5))[clusters]
        y = rng.normal(size=200) - rng.normal(size=40)[clusters]
        naive += correlate(x, y, Layout(groups, groups), seed=0).p.tolist()
        kept += correlate(x, y, Layout(groups, groups, clusters=clusters), seed=0).p.tolist()
    assert np.mean(np.array(naive) < 0.05) > 0.12
    assert np.mean(np.array(kept) < 0.05) < 0.1
