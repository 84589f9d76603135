"""Resampling: bootstrap intervals of rates over clusters, and permutations and draws inside groups."""

from collections.abc import Iterator

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


def rate_intervals(numerators: Floats, denominators: Floats, draws: int, seed: int) -> tuple[Floats, Floats]:
    """95 % percentile intervals of sum(numerators) / sum(denominators), resampling clusters.

    Both arguments: (clusters, rates). Every rate sees the same draws. A rate that is 0 or 1 in every cluster
    has no spread to resample: it gets the exact binomial interval with clusters as trials. A rate with fewer
    than two clusters has no interval: NaN.
    """
    if numerators.shape[0] == 0:
        undefined = np.full(numerators.shape[1], np.nan)
        return undefined, undefined.copy()
    rng = np.random.default_rng(seed)
    sums = [(w @ numerators, w @ denominators) for w in draw_counts(len(numerators), draws, rng)]
    rates = _divide(np.concatenate([n for n, _ in sums]), np.concatenate([d for _, d in sums]))
    low, high = percentile_interval(rates)
    trials = np.count_nonzero(denominators, axis=0)
    none = numerators.sum(axis=0) == 0
    every = np.all(numerators == denominators, axis=0)
    tail = (1 - LEVEL) / 2
    exact = np.asarray(beta.ppf(1 - tail, 1, np.maximum(trials, 1)), dtype=np.float64)
    low, high = np.where(every, 1 - exact, low), np.where(none, exact, high)
    low[trials < 2] = high[trials < 2] = np.nan
    return low, high


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
