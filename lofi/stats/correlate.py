"""Correlation of many variables with one response: over all cells, or inside groups of cells."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import kendalltau, rankdata

from lofi.stats import shuffles
from lofi.stats.resample import (
    Booleans,
    Floats,
    Integers,
    draws_of_blocks,
    draws_within,
    percentile_interval,
    permutations,
)

PERMUTATIONS = 10_000
BOOTSTRAPS = 1000
MIN_BLOCKS = 5  # fewer are too few to resample
ROUNDING = 1e-12  # relative differences below this are none


@dataclass(frozen=True)
class Layout:
    """How cells belong together; every array is (n,)."""

    groups: Integers  # lose their means
    blocks: Integers  # share samples
    covariate: Floats | None = None  # regressed out inside groups, with one slope for all
    clusters: Integers | None = None  # of cells from which the same baseline was taken
    methods: Integers | None = None  # given where each group holds a method once

    def at(self, cells: Booleans) -> "Layout":
        """The same for some of the cells."""
        given = (self.groups, self.blocks, self.covariate, self.clusters, self.methods)
        groups, blocks, *others = (None if part is None else part[cells] for part in given)
        return Layout(groups, blocks, *others)  # type: ignore[arg-type]


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
    kendall: Floats = field(init=False)
    p: Floats = field(init=False)
    p_methods: Floats = field(init=False)

    def __post_init__(self) -> None:
        for name in ("pearson", "low", "high", "spearman", "kendall", "p", "p_methods"):
            setattr(self, name, np.full(self.n_variables, np.nan))


def correlate(x: Floats, y: Floats, layout: Layout, *, seed: int) -> Correlations:
    """Correlate each column of `x` with `y` inside groups.

    x: (n, variables); y: (n,); nothing missing. Both sides lose their group means, and what a covariate explains of
    the rest. Pearson is taken over all points then; Spearman is Pearson of the ranks of what is left, Kendall is tau-b
    of it. `p` is two-sided: Pearson against 10,000 shuffles of y inside the groups; `p_methods` the same where whole
    methods change places. The interval is a percentile bootstrap of Pearson over `blocks` (cells that share samples)
    where there are at least five, else over the groups if those are at least five, else over the cells inside each
    group; `resampled` says which. A group of one says nothing about what happens inside groups and is left out.
    """
    n_variables, given = x.shape[1], len(y)
    shared = _sharing(layout.groups)
    x, y, layout = x[shared], y[shared], layout.at(shared)
    n_groups = len(np.unique(layout.groups))
    if len(y) < 3:
        note = "no cells" if not given else "fewer than 3 cells" if given < 3 or len(y) else "every group has one cell"
        return Correlations(n_variables, len(y), n_groups, [note] * n_variables)
    x, y = _residuals(x, layout), _residuals(y[:, None], layout)[:, 0]
    varies: Booleans = (x != 0).any(axis=0)
    if not y.any():
        return Correlations(n_variables, len(y), n_groups, ["agreement does not vary"] * n_variables)
    result = Correlations(n_variables, len(y), n_groups, [None if v else "the statistic does not vary" for v in varies])
    if varies.any():
        _fill(result, varies, x[:, varies], y, layout, np.random.default_rng(seed))
    return result


def _fill(
    result: Correlations, varies: Booleans, x: Floats, y: Floats, layout: Layout, rng: np.random.Generator
) -> None:
    """Everything about the columns that vary; x and y are residuals."""
    result.pearson[varies] = _unit(y) @ _unit(x)
    y_ranks, x_ranks = _ranks(y), _ranks(x)
    result.spearman[varies] = _unit(y_ranks) @ _unit(x_ranks)
    result.kendall[varies] = [kendalltau(y_ranks, column, method="asymptotic").statistic for column in x_ranks.T]
    result.p[varies] = permutation_p(x, y, _shuffles(layout, rng))
    if layout.methods is not None:
        exchanged = shuffles.of_methods(layout.groups, layout.methods, PERMUTATIONS, rng)
        result.p_methods[varies] = permutation_p(x, y, exchanged)
    groups, blocks = layout.groups, layout.blocks
    if len(np.unique(blocks)) >= MIN_BLOCKS:
        result.resampled, weights, strata = "model_dataset", draws_of_blocks(blocks, BOOTSTRAPS, rng), None
    elif result.n_groups >= MIN_BLOCKS:
        result.resampled, weights, strata = "group", draws_of_blocks(groups, BOOTSTRAPS, rng), None
    else:
        result.resampled, weights, strata = "cell", draws_within(groups, BOOTSTRAPS, rng), groups
    # Slopes stay as they are in each draw: what they would add to the spread of r is of the second order.
    draws = weighted_correlations(weights, x, y, strata)
    result.low[varies], result.high[varies] = percentile_interval(draws)


def _shuffles(layout: Layout, rng: np.random.Generator) -> Iterator[Integers]:
    """Shuffles inside groups, which keep clusters together where there are any."""
    if layout.clusters is None:
        return permutations(layout.groups, PERMUTATIONS, rng)
    return shuffles.of_clusters(layout.groups, layout.clusters, PERMUTATIONS, rng)


def permutation_p(x: Floats, y: Floats, orders: Iterator[Integers]) -> Floats:
    """Two-sided p of each column: (1 + shuffles of y that reach it) / (1 + shuffles).

    x: (n, variables); y: (n,); orders: blocks of (draws, n).
    """
    x, y = _unit(x), _unit(y)
    observed = np.abs(y @ x) - ROUNDING
    as_extreme, draws = np.zeros(x.shape[1]), 0
    for order in orders:
        as_extreme += np.count_nonzero(np.abs(y[order] @ x) >= observed, axis=0)
        draws += len(order)
    return np.asarray((1 + as_extreme) / (1 + draws), dtype=np.float64)


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


def _residuals(values: Floats, layout: Layout) -> Floats:
    """What group means and the covariate leave, in units of each column's largest value; 0 where only rounding is."""
    largest = np.abs(values).max(axis=0)
    left = _without_group_means(values / np.where(largest > 0, largest, 1), layout.groups)
    if layout.covariate is not None:
        slope = _without_group_means(layout.covariate[:, None], layout.groups)[:, 0]
        left -= np.outer(slope, slope @ left) / max(float(slope @ slope), np.finfo(np.float64).tiny)
    left[:, np.abs(left).max(axis=0) <= ROUNDING] = 0
    return left


def _without_group_means(values: Floats, groups: Integers) -> Floats:
    """Take off group means; values: (n, columns)."""
    _, place, size = np.unique(groups, return_inverse=True, return_counts=True)
    means = np.zeros((len(size), values.shape[1]))
    np.add.at(means, place, values)
    return np.asarray(values - (means / size[:, None])[place])


def _ranks(values: Floats) -> Floats:
    """Ranks of each column, less their mean; values that differ by rounding only share a rank."""
    largest = np.abs(values).max(axis=0)
    ranks = rankdata(np.round(values / largest, 12), axis=0)
    return np.asarray(ranks - ranks.mean(axis=0), dtype=np.float64)


def _unit(values: Floats) -> Floats:
    """Columns of length 1."""
    return np.asarray(values / np.linalg.norm(values, axis=0), dtype=np.float64)
