"""Resampling: bootstrap intervals of rates over clusters, and permutations and draws inside groups."""

import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from lofi.stats.exact import TAILS, clopper_pearson

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

SEED = 0
DRAWS = 2000
BLOCK_VALUES = 4_000_000  # numbers held at once by one block of draws


def dataset_seed(dataset: str) -> int:
    """The seed of a dataset's draws, so that whatever is compared on it is compared on the same images."""
    return SEED + zlib.crc32(dataset.encode())


def draw_counts(n: int, draws: int, rng: np.random.Generator) -> Iterator[Floats]:
    """How often each of `n` units is drawn, in blocks of draws: (block, n); each row sums to n."""
    block = max(1, BLOCK_VALUES // n)
    for start in range(0, draws, block):
        size = min(block, draws - start)
        drawn = rng.integers(0, n, size=(size, n)) + n * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)


@lru_cache(maxsize=1)
def weights(n: int, draws: int, seed: int) -> NDArray[np.uint8]:
    """How often each of `n` clusters is drawn: (draws, n), read-only; kept until others are asked for.

    A byte holds a count: among up to 255 clusters there is none greater, and among more one is less likely than
    1 in 10^500.
    """
    rng = np.random.default_rng(seed)
    drawn = np.concatenate([block.astype(np.uint8) for block in draw_counts(n, draws, rng)])
    drawn.flags.writeable = False
    return drawn


def drawn_sums(sums: Floats, draws: int, seed: int) -> Floats:
    """Sums over the clusters of every draw: (clusters, columns) to (draws, columns). All columns see the same draws."""
    counts = weights(len(sums), draws, seed)
    block = max(1, BLOCK_VALUES // len(sums))
    return np.concatenate([counts[at : at + block].astype(np.float64) @ sums for at in range(0, draws, block)])


def rate_draws(numerators: Floats, denominators: Floats, draws: int, seed: int) -> Floats:
    """sum(numerators) / sum(denominators) in every draw of clusters: (draws, rates); NaN where it is undefined.

    Both arguments: (clusters, rates). Every rate sees the same draws.
    """
    if numerators.shape[0] == 0:
        return np.full((draws, numerators.shape[1]), np.nan)
    return divide(drawn_sums(numerators, draws, seed), drawn_sums(denominators, draws, seed))


def rates_left_out(numerators: Floats, denominators: Floats) -> Floats:
    """Every rate without each of the clusters in turn: (clusters, rates)."""
    return divide(numerators.sum(axis=0) - numerators, denominators.sum(axis=0) - denominators)


def exact_bounds(numerators: Floats, denominators: Floats) -> tuple[Floats, Floats]:
    """Exact binomial 95 % bounds, clusters as trials, of rates that are 0 or 1 in every cluster; NaN for others.

    Both arguments: (clusters, rates). Such a rate has no spread to resample.
    """
    trials = np.maximum(np.count_nonzero(denominators, axis=0), 1).astype(np.float64)
    none, every = np.all(numerators == 0, axis=0), np.all(numerators == denominators, axis=0)
    low, high = clopper_pearson(np.where(every, trials, 0.0), trials)
    unknown = ~(none | every)
    return np.where(unknown, np.nan, low), np.where(unknown, np.nan, high)


def binomial_bounds(numerators: Floats, denominators: Floats) -> tuple[Floats, Floats]:
    """Exact binomial 95 % bounds of rates that count at most one sample in every cluster; NaN for others.

    Both arguments: (clusters, rates).
    """
    single = np.all((denominators <= 1) & ((numerators == 0) | (numerators == denominators)), axis=0)
    hits, trials = numerators.sum(axis=0), denominators.sum(axis=0)
    low, high = clopper_pearson(np.where(single, hits, 0.0), np.where(single, trials, 1.0))
    return np.where(single, low, np.nan), np.where(single, high, np.nan)


def rate_intervals(numerators: Floats, denominators: Floats, draws: int, seed: int) -> tuple[Floats, Floats]:
    """95 % intervals of every rate by itself; see `sum_bounds`. Both arguments: (clusters, rates)."""
    return rate_bounds(rate_draws(numerators, denominators, draws, seed), numerators, denominators)


def rate_bounds(drawn: Floats, numerators: Floats, denominators: Floats) -> tuple[Floats, Floats]:
    """The same from rates in draws, (draws, rates), that are there already."""
    return sum_bounds(drawn, numerators, denominators, [[(rate, 1.0)] for rate in range(numerators.shape[1])])


def sum_bounds(
    drawn: Floats, numerators: Floats, denominators: Floats, sums: Sequence[Sequence[tuple[int, float]]]
) -> tuple[Floats, Floats]:
    """95 % intervals of weighted sums of rates, resampling clusters.

    drawn: (draws, rates); numerators and denominators: (clusters, rates). sums: for each, its rates by number and their
    weights. A sum that no draw can move gets the sum of its rates' exact bounds, which is never too narrow. One rate of
    samples that each are a cluster gets its exact binomial bounds. One with a rate of fewer than two clusters has no
    interval: NaN. All others: `bca_interval`.
    """
    observed = _added(divide(numerators.sum(axis=0), denominators.sum(axis=0))[None], sums)[0]
    left_out = _added(rates_left_out(numerators, denominators), sums)
    bounds = bca_interval(_added(drawn, sums), observed, acceleration(left_out))
    alone = np.array([len(terms) == 1 for terms in sums], dtype=bool)
    few = np.count_nonzero(denominators, axis=0) < 2
    unknown = np.array([any(few[rate] for rate, _ in terms) for terms in sums], dtype=bool)
    exact, binomial = exact_bounds(numerators, denominators), binomial_bounds(numerators, denominators)
    for bound, sure, counted in zip(bounds, exact, binomial, strict=True):
        for known in (np.where(alone, _added(counted[None], sums)[0], np.nan), _added(sure[None], sums)[0]):
            np.copyto(bound, known, where=np.isfinite(known))
        bound[unknown] = np.nan
    return bounds


def _added(rates: Floats, sums: Sequence[Sequence[tuple[int, float]]]) -> Floats:
    """The weighted sums of rates, term by term so that no rounding depends on what else is summed: (draws, sums)."""
    columns = [sum((weight * rates[:, rate] for rate, weight in terms), np.zeros(len(rates))) for terms in sums]
    return np.stack(columns, axis=1) if columns else np.empty((len(rates), 0))


def acceleration(left_out: Floats) -> Floats:
    """How the spread of a figure changes with the figure itself, from leaving out one cluster at a time.

    left_out: (clusters, figures). Returns (figures,): sum d^3 / (6 (sum d^2)^1.5), d the mean less each; NaN where all
    are equal.
    """
    apart = left_out.mean(axis=0) - left_out if len(left_out) else left_out
    squares = apart**2
    return divide((squares * apart).sum(axis=0), 6 * squares.sum(axis=0) ** 1.5)


def bca_interval(drawn: Floats, observed: Floats, accelerations: Floats) -> tuple[Floats, Floats]:
    """Bound each figure by 95 % of its defined draws, corrected for bias and acceleration (Efron, 1987).

    drawn: (draws, figures), the others (figures,). Where the correction is not defined, or would leave the figure
    itself outside because nearly all draws lie on one side of it, the bounds are those of `percentile_interval`.
    """
    n = np.maximum(np.isfinite(drawn).sum(axis=0), 1)
    below = ((drawn < observed).sum(axis=0) + (drawn <= observed).sum(axis=0)) / (2 * n)
    bias = np.asarray(norm.ppf(below), dtype=np.float64)
    plain = ~(np.abs(bias) < norm.ppf(TAILS[1])) | ~np.isfinite(accelerations)
    bias, accelerations = np.where(plain, 0.0, bias), np.where(plain, 0.0, accelerations)
    moved = bias + norm.ppf(TAILS)[:, None]
    scale = 1 - accelerations * moved
    plain |= (scale <= 0).any(axis=0)
    shares = np.where(plain, TAILS[:, None], norm.cdf(bias + moved / np.where(plain, 1.0, scale)))
    low, high = _quantiles(drawn, shares)
    return low, high


def percentile_interval(draws: Floats) -> tuple[Floats, Floats]:
    """Bound the central 95 % of each column's defined draws; NaN where those are not the most of them."""
    low, high = _quantiles(draws, np.repeat(TAILS[:, None], draws.shape[1], axis=1))
    return low, high


def _quantiles(draws: Floats, shares: Floats) -> Floats:
    """Each column's quantiles among its defined draws, at its own shares; NaN where less than half are defined.

    draws: (draws, columns), shares and the result: (quantiles, columns). Between two draws it is linear.
    """
    ordered = np.sort(draws.T, axis=1)  # NaN last
    defined = np.isfinite(ordered).sum(axis=1)
    place = shares * np.maximum(defined - 1, 0)
    under = np.floor(place).astype(np.int64)
    over = np.minimum(under + 1, np.maximum(defined - 1, 0))
    columns = np.arange(len(ordered))
    first, second = ordered[columns, under], ordered[columns, over]
    return np.where(2 * defined > len(draws), first + (second - first) * (place - under), np.nan)


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


def divide(numerators: Floats, denominators: Floats) -> Floats:
    """Divide; NaN where the denominator is 0."""
    undefined = np.full_like(numerators, np.nan)
    return np.divide(numerators, denominators, out=undefined, where=denominators != 0)
