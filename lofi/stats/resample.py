"""Resampling: bootstrap intervals of rates over clusters, and permutations and draws inside groups."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

LEVEL = 0.95
BLOCK_VALUES = 4_000_000  # numbers held at once by one block of draws


def draw_counts(n: int, draws: int, rng: np.random.Generator) -> Iterator[Floats]:
    """How often each of `n` units is drawn, in blocks of draws: (block, n); each row sums to n."""
    block = max(1, BLOCK_VALUES // n)
    for start in range(0, draws, block):
        size = min(block, draws - start)
        drawn = rng.integers(0, n, size=(size, n)) + n * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)


def rate_draws(numerators: Floats, denominators: Floats, draws: int, seed: int) -> Floats:
    """sum(numerators) / sum(denominators) in every draw of clusters: (draws, rates); NaN where it is undefined.

    Both arguments: (clusters, rates). Every rate sees the same draws.
    """
    if numerators.shape[0] == 0:
        return np.full((draws, numerators.shape[1]), np.nan)
    rng = np.random.default_rng(seed)
    sums = [(w @ numerators, w @ denominators) for w in draw_counts(len(numerators), draws, rng)]
    return _divide(np.concatenate([n for n, _ in sums]), np.concatenate([d for _, d in sums]))


def exact_bounds(numerators: Floats, denominators: Floats) -> tuple[Floats, Floats]:
    """Exact binomial 95 % bounds, clusters as trials, of rates that are 0 or 1 in every cluster; NaN for others.

    Both arguments: (clusters, rates). Such a rate has no spread to resample.
    """
    trials = np.count_nonzero(denominators, axis=0)
    none = numerators.sum(axis=0) == 0
    every = np.all(numerators == denominators, axis=0)
    tail = (1 - LEVEL) / 2
    exact = np.asarray(beta.ppf(1 - tail, 1, np.maximum(trials, 1)), dtype=np.float64)
    low = np.where(every, 1 - exact, np.where(none, 0.0, np.nan))
    high = np.where(none, exact, np.where(every, 1.0, np.nan))
    return low, high


def rate_intervals(numerators: Floats, denominators: Floats, draws: int, seed: int) -> tuple[Floats, Floats]:
    """95 % intervals of every rate by itself: `sum_intervals` of sums of one."""
    alone = [[(rate, 1.0)] for rate in range(numerators.shape[1])]
    return sum_intervals(numerators, denominators, alone, draws, seed)


def sum_intervals(
    numerators: Floats, denominators: Floats, sums: Sequence[Sequence[tuple[int, float]]], draws: int, seed: int
) -> tuple[Floats, Floats]:
    """95 % percentile intervals of weighted sums of rates, resampling clusters.

    The first two arguments: (clusters, rates). sums: for each, its rates by number and their weights. A sum that no
    draw can move gets the sum of its rates' exact bounds, which is never too narrow. One with a rate of fewer than
    two clusters has no interval: NaN.
    """
    low, high = percentile_interval(_added(rate_draws(numerators, denominators, draws, seed), sums))
    exact_low, exact_high = (_added(bound[None], sums)[0] for bound in exact_bounds(numerators, denominators))
    low, high = np.where(np.isnan(exact_low), low, exact_low), np.where(np.isnan(exact_high), high, exact_high)
    few = np.count_nonzero(denominators, axis=0) < 2
    unknown = [any(few[rate] for rate, _ in terms) for terms in sums]
    low[unknown] = high[unknown] = np.nan
    return low, high


def _added(rates: Floats, sums: Sequence[Sequence[tuple[int, float]]]) -> Floats:
    """The weighted sums of rates, term by term so that no rounding depends on what else is summed: (draws, sums)."""
    columns = [sum((weight * rates[:, rate] for rate, weight in terms), np.zeros(len(rates))) for terms in sums]
    return np.stack(columns, axis=1) if columns else np.empty((len(rates), 0))


def percentile_interval(draws: Floats) -> tuple[Floats, Floats]:
    """Bound the central 95 % of each column's defined draws; NaN where those are not the most of them."""
    defined = np.isfinite(draws).mean(axis=0) > 0.5
    low, high = np.full(draws.shape[1], np.nan), np.full(draws.shape[1], np.nan)
    if defined.any():
        tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
        low[defined], high[defined] = np.nanquantile(draws[:, defined], tails, axis=0)
    return low, high


def permutations(groups: Integers, draws: int, rng: np.random.Generator) -> Iterator[Integers]:
    """Positions shuffled inside their groups only, in blocks of draws: (block, n)."""
    n = len(groups)
    by_group = np.argsort(groups, kind="stable")
    block = max(1, BLOCK_VALUES // n)
    for start in range(0, draws, block):
        size = min(block, draws - start)
        # Random keys in [g, g + 1) sort every group into its own places, in random order.
        shuffled = np.argsort(groups[by_group] + rng.random((size, n)), axis=1)
        order = np.empty((size, n), dtype=np.int64)
        order[:, by_group] = by_group[shuffled]
        yield order


def draws_within(groups: Integers, draws: int, rng: np.random.Generator) -> Floats:
    """How often each unit was drawn when every group is resampled on its own: (draws, n)."""
    counts = np.empty((draws, len(groups)))
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        counts[:, members] = np.concatenate(list(draw_counts(len(members), draws, rng)))
    return counts


def draws_of_blocks(blocks: Integers, draws: int, rng: np.random.Generator) -> Floats:
    """How often each unit was drawn when whole blocks are resampled: (draws, n)."""
    names, membership = np.unique(blocks, return_inverse=True)
    return np.concatenate(list(draw_counts(len(names), draws, rng)))[:, membership]


def _divide(numerators: Floats, denominators: Floats) -> Floats:
    """Divide; NaN where the denominator is 0."""
    undefined = np.full_like(numerators, np.nan)
    return np.divide(numerators, denominators, out=undefined, where=denominators != 0)
