"""Correlation of many variables with one response: over all cells, or inside groups of cells."""

from dataclasses import dataclass, field

import numpy as np
from scipy.stats import rankdata

from lofi.stats.resample import (
    Booleans,
    Floats,
    Integers,
    draws_of_blocks,
    draws_within,
    percentile_interval,
    permutations,
)

PERMUTATIONS = 2000
BOOTSTRAPS = 1000
MIN_BLOCKS = 5  # fewer are too few to resample
ROUNDING = 1e-12  # relative differences below this are none


@dataclass
class Correlations:
    """One entry per variable. A number that is not defined is NaN, and `note` says why."""

    n_variables: int
    n_cells: int
    n_groups: int
    note: list[str | None]
    resampled: str | None = None
    pearson: Floats = field(init=False)
    low: Floats = field(init=False)
    high: Floats = field(init=False)
    spearman: Floats = field(init=False)
    p: Floats = field(init=False)

    def __post_init__(self) -> None:
        for name in ("pearson", "low", "high", "spearman", "p"):
            setattr(self, name, np.full(self.n_variables, np.nan))


def correlate(x: Floats, y: Floats, groups: Integers, blocks: Integers, *, seed: int) -> Correlations:
    """Correlate each column of `x` with `y` inside `groups`.

    x: (n, variables); y, groups and blocks: (n,); nothing missing. Both sides lose their group means. Pearson
    is taken over all points then; Spearman is Pearson of the ranks of what is left. `p` is two-sided: Pearson
    against 2,000 shuffles of y inside the groups. The interval is a percentile bootstrap of Pearson over
    `blocks` (cells that share samples) where there are at least five, else over the groups if those are at
    least five, else over the cells inside each group; `resampled` says which. A group of one says nothing
    about what happens inside groups and is left out.
    """
    n_variables = x.shape[1]
    shared = _sharing(groups)
    x, y, groups, blocks = x[shared], y[shared], groups[shared], blocks[shared]
    n_groups = len(np.unique(groups))
    if len(y) < 3:
        note = "fewer than 3 cells" if len(shared) < 3 or len(y) else "every group has one cell"
        return Correlations(n_variables, len(y), n_groups, [note] * n_variables)
    x, y = _without_group_means(x, groups), _without_group_means(y[:, None], groups)[:, 0]
    varies: Booleans = (x != 0).any(axis=0)
    if not y.any():
        return Correlations(n_variables, len(y), n_groups, ["agreement does not vary"] * n_variables)
    result = Correlations(n_variables, len(y), n_groups, [None if v else "the statistic does not vary" for v in varies])
    if varies.any():
        _fill(result, varies, x[:, varies], y, groups, blocks, np.random.default_rng(seed))
    return result


def _fill(
    result: Correlations,
    varies: Booleans,
    x: Floats,
    y: Floats,
    groups: Integers,
    blocks: Integers,
    rng: np.random.Generator,
) -> None:
    """Everything about the columns that vary; x and y have lost their group means."""
    result.pearson[varies] = _unit(y) @ _unit(x)
    result.spearman[varies] = _unit(_ranks(y)) @ _unit(_ranks(x))
    result.p[varies] = permutation_p(x, y, groups, rng)
    if len(np.unique(blocks)) >= MIN_BLOCKS:
        result.resampled, weights, strata = "model_dataset", draws_of_blocks(blocks, BOOTSTRAPS, rng), None
    elif result.n_groups >= MIN_BLOCKS:
        result.resampled, weights, strata = "group", draws_of_blocks(groups, BOOTSTRAPS, rng), None
    else:
        result.resampled, weights, strata = "cell", draws_within(groups, BOOTSTRAPS, rng), groups
    draws = weighted_correlations(weights, x, y, strata)
    result.low[varies], result.high[varies] = percentile_interval(draws)


def permutation_p(x: Floats, y: Floats, groups: Integers, rng: np.random.Generator) -> Floats:
    """Two-sided p of each column: (1 + shuffles of y inside groups that reach it) / (1 + shuffles)."""
    x, y = _unit(x), _unit(y)
    observed = np.abs(y @ x) - ROUNDING
    as_extreme = sum(
        np.count_nonzero(np.abs(y[order] @ x) >= observed, axis=0) for order in permutations(groups, PERMUTATIONS, rng)
    )
    return np.asarray((1 + as_extreme) / (1 + PERMUTATIONS), dtype=np.float64)


def weighted_correlations(weights: Floats, x: Floats, y: Floats, strata: Integers | None) -> Floats:
    """Pearson of each column with y under each row of weights: (draws, variables).

    Means are taken anew in each draw, over everything or inside each stratum; NaN where a side is constant.
    """
    strata = np.zeros(len(y), dtype=np.int64) if strata is None else strata
    shape = (len(weights), x.shape[1])
    covariance, x_variance, y_variance = np.zeros(shape), np.zeros(shape), np.zeros((shape[0], 1))
    for stratum in np.unique(strata):
        members = strata == stratum
        w, a, b = weights[:, members], x[members], y[members, None]
        share = 1 / np.maximum(w.sum(axis=1, keepdims=True), 1)
        covariance += w @ (a * b) - (w @ a) * (w @ b) * share
        x_variance += w @ a**2 - (w @ a) ** 2 * share
        y_variance += w @ b**2 - (w @ b) ** 2 * share
    x_size, y_size = x.var(axis=0) * len(y), y.var() * len(y)
    defined = (x_variance > ROUNDING * x_size) & (y_variance > ROUNDING * y_size)
    scale = np.sqrt(np.where(defined, x_variance * y_variance, 1))
    return np.where(defined, np.clip(covariance / scale, -1, 1), np.nan)


def _sharing(groups: Integers) -> Booleans:
    """Mark where the group has another member."""
    _, place, size = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(size[place] > 1)


def _without_group_means(values: Floats, groups: Integers) -> Floats:
    """Take off group means, in units of each column's largest value; 0 where only rounding is left."""
    _, place, size = np.unique(groups, return_inverse=True, return_counts=True)
    means = np.zeros((len(size), values.shape[1]))
    np.add.at(means, place, values)
    centred = values - (means / size[:, None])[place]
    largest = np.abs(values).max(axis=0)
    centred = centred / np.where(largest > 0, largest, 1)
    centred[:, np.abs(centred).max(axis=0) <= ROUNDING] = 0
    return np.asarray(centred)


def _ranks(values: Floats) -> Floats:
    """Ranks of each column, less their mean; values that differ by rounding only share a rank."""
    largest = np.abs(values).max(axis=0)
    ranks = rankdata(np.round(values / largest, 12), axis=0)
    return np.asarray(ranks - ranks.mean(axis=0), dtype=np.float64)


def _unit(values: Floats) -> Floats:
    """Columns of length 1."""
    return np.asarray(values / np.linalg.norm(values, axis=0), dtype=np.float64)
