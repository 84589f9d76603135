"""Single samples: each number against a plain computation, and what it says where the truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import mannwhitneyu, rankdata, spearmanr

from lofi.cell import Cell
from lofi.stats.beyond_margin import tell, too_few
from lofi.stats.gaps import alike
from lofi.stats.samplewise import (
    SHRINKAGE,
    area_parts,
    auroc,
    chances,
    fitted,
    gain,
    margin_terms,
    rank_correlation,
    ranks,
    ranks_of_size,
    score_parts,
)
from lofi.stats.shifts import Shifts


def made(*, images=100, questions=4, by_shift=0.0, like_margin=0.0, columns=1, seed=0):
    """Changes that follow the margin and, so far as asked for, one shift; questions about one image share a part.

    like_margin: how much every shift follows the margin itself.
    """
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(images), questions)
    margin = rng.gamma(2.0, size=len(image))
    of_image = rng.normal(size=(images, columns))[image]
    shift = 0.7 * of_image + 0.7 * rng.normal(size=(len(image), columns)) - like_margin * margin[:, None]
    logit = 0.5 - margin + by_shift * shift[:, 0] + 0.5 * rng.normal(size=images)[image]
    changed = rng.random(len(image)) < 1 / (1 + np.exp(-logit))
    kl = np.exp(logit + rng.normal(size=len(image)))
    return Shifts(Cell("m", "d", "lofi", "0.2500"), changed, kl, margin, image, shift.T.copy(), np.arange(len(image)))


def test_spearman_and_auroc_equal_scipy():
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(size=60), rng.integers(0, 4, 60), np.zeros(60)])
    y, changed = rng.normal(size=60), rng.random(60) < 0.3
    found = rank_correlation(ranks(x), ranks(y))
    areas = auroc(ranks(x), changed)
    for at in range(2):
        assert found[at] == pytest.approx(spearmanr(x[at], y).statistic)
        u = mannwhitneyu(x[at, changed], x[at, ~changed]).statistic
        assert areas[at] == pytest.approx(u / (changed.sum() * (~changed).sum()))
        assert area_parts(x[at], changed)[0] == pytest.approx(areas[at])
    assert np.isnan(found[2])
    assert areas[2] == pytest.approx(0.5)


@pytest.mark.parametrize("n", [1, 2, 7, 500])
def test_ranks_are_mean_ranks_whatever_the_numbers(n):
    """Far from even, of few values, in falling order, all the same, all but one near each other, and hardly above 0."""
    rng = np.random.default_rng(n)
    plain = rng.normal(size=(6, n))
    crowded = np.where(np.arange(n) == 0, 1e9, np.sort(plain[5])[::-1])
    tied = rng.integers(-2, 3, size=(6, n)).astype(np.float64)
    falling, same = -np.sort(-plain), np.zeros((1, n))
    x = np.concatenate([plain, rng.standard_cauchy((6, n)), np.exp(20 * plain), tied, falling, same, crowded[None]])
    x = np.concatenate([x, plain * 1e-310, np.abs(x), -np.abs(x)])
    assert ranks(x) == pytest.approx((rankdata(x, axis=1) - 0.5) / n, rel=1e-15)
    assert ranks_of_size(x, ranks(x)) == pytest.approx((rankdata(np.abs(x), axis=1) - 0.5) / n, rel=1e-13)


def test_what_never_moves_has_no_part_in_the_score_test():
    shifts = made(columns=2)
    shifts.dlog[1] = 0.0
    found = tell(shifts)
    assert (found.parts[1] == 0).all()
    assert found.parts[0].any()
    assert found.auroc[1] == pytest.approx(0.5)


def test_the_fit_is_the_maximum_of_the_likelihood():
    shifts = made(by_shift=1.0)
    terms = np.column_stack([margin_terms(shifts.margin), shifts.dlog[0]])

    def loss(slopes):
        p = np.clip(chances(terms, slopes), 1e-12, 1 - 1e-12)
        likelihood = np.where(shifts.changed, np.log(p), np.log(1 - p)).sum()
        return -likelihood + SHRINKAGE * len(terms) / 2 * slopes @ slopes

    best = minimize(loss, np.zeros(4), tol=1e-10)
    assert fitted(terms, shifts.changed) == pytest.approx(best.x, abs=1e-3)


@pytest.mark.parametrize("changed", [np.arange(40) < 20, np.zeros(40, dtype=bool), np.arange(40) == 3])
def test_a_fit_to_separated_or_equal_samples_ends(changed):
    terms = margin_terms(np.arange(40.0))
    assert np.isfinite(fitted(terms, changed)).all()


def test_the_error_of_an_area_is_that_of_a_bootstrap():
    rng = np.random.default_rng(1)
    changed = np.arange(200) < 50
    score = rng.normal(size=200) + changed
    area, parts = area_parts(score, changed)
    assert parts.sum() == pytest.approx(0, abs=1e-12)
    draws = []
    for _ in range(400):
        drawn = np.concatenate([rng.integers(0, 50, 50), rng.integers(50, 200, 150)])
        draws.append(area_parts(score[drawn], changed[drawn])[0])
    assert np.sqrt((parts**2).sum()) == pytest.approx(np.std(draws), rel=0.15)
    assert 0.6 < area < 0.9


def z_of(shifts, clustered=True):
    parts = score_parts(ranks(shifts.dlog), shifts.changed, margin_terms(shifts.margin))
    if clustered:
        sums = np.zeros((shifts.image.max() + 1, len(parts)))
        np.add.at(sums, shifts.image, parts.T)
        parts = sums.T
    return parts.sum(axis=1) / np.sqrt((parts**2).sum(axis=1))


def test_the_score_test_holds_its_level_and_does_not_take_the_margin_for_the_shift():
    plain, confounded = [], []
    for seed in range(40):
        plain += z_of(made(columns=10, seed=seed)).tolist()
        confounded += z_of(made(columns=10, like_margin=0.5, seed=seed)).tolist()
    for z in (plain, confounded):
        assert np.mean(np.abs(z) > 1.96) == pytest.approx(0.05, abs=0.035)
    alone = made(like_margin=0.5)
    assert auroc(ranks(alone.dlog), alone.changed)[0] > 0.55  # by itself the shift does go with changes


def test_a_planted_shift_is_found_beyond_the_margin():
    found = [z_of(made(by_shift=0.8, seed=seed))[0] for seed in range(10)]
    assert min(found) > 2
    gains = []
    for seed in range(10):
        shifts = made(by_shift=1.2, seed=seed)
        each = gain(ranks(shifts.dlog[0]), shifts.changed, margin_terms(shifts.margin), shifts.image, 100)
        gains.append(each.by_both - each.by_margin)
        assert each.influence.shape == (100,)
    assert min(gains) > 0.03


def test_nothing_is_gained_where_the_shift_says_nothing():
    """Out of sample, a column of noise costs a little, and the interval covers 0."""
    gains, covered = [], 0
    for seed in range(40):
        shifts = made(like_margin=0.5 * (seed % 2), seed=seed)
        each = gain(ranks(shifts.dlog[0]), shifts.changed, margin_terms(shifts.margin), shifts.image, 100)
        gains.append(each.by_both - each.by_margin)
        covered += gains[-1] - 1.96 * np.sqrt((each.influence**2).sum()) <= 0
    assert np.mean(gains) == pytest.approx(0, abs=0.005)
    assert covered >= 38


def test_an_image_is_never_forecast_from_questions_about_itself():
    """Every image has a shift of its own that tells all about it, and nothing about any other."""
    rng = np.random.default_rng(2)
    image = np.repeat(np.arange(60), 5)
    changed = (rng.random(60) < 0.5)[image]
    shift = rng.normal(size=60)[image]
    found = gain(ranks(shift), changed, margin_terms(rng.gamma(2.0, size=300)), image, 60)
    assert found.by_both < 0.65


def test_gaps_and_too_few_changes_leave_a_cell_out_of_what_it_cannot_tell():
    shifts = made(columns=3)
    shifts.dlog[1, ::2] = np.nan
    shifts.dlog[2] = np.nan
    shifts.kl[7] = np.nan
    found = tell(shifts)
    assert found.n.tolist() == [399, 199, 0]
    kept = np.arange(400) != 7
    assert found.spearman[0] == pytest.approx(spearmanr(shifts.dlog[0, kept], shifts.kl[kept]).statistic)
    assert found.n_changed[0] == shifts.changed[kept].sum()
    assert np.isnan(found.auroc[2])
    assert (found.parts[1, ::2] == 0).all()
    few = replace(shifts, changed=np.arange(400) < 5)
    assert np.isfinite(tell(few).spearman[0])
    assert tell(few).n_changed[0] == 0
    assert np.isnan(tell(few).auroc[0])


def test_too_few_says_what_is_missing():
    image = np.arange(40)
    assert too_few(image < 9, image) == "9 of 40 answers changed; 10 must change and 10 must stay"
    assert too_few(image > 4, image) == "35 of 40 answers changed; 10 must change and 10 must stay"
    assert too_few(image < 20, image // 5) == "8 images; at least 10 are needed"
    assert too_few(image < 20, image) is None


def test_columns_with_the_same_gaps_go_together():
    present = np.array([[1, 1, 0, 1], [0, 1, 1, 0], [1, 1, 1, 1]], dtype=bool)
    found = {tuple(columns.tolist()): rows.tolist() for rows, columns in alike(present)}
    assert found == {(0, 3): [True, False, True], (1,): [True, True, True], (2,): [False, True, True]}
