"""Exact tests and bounds: no draws, no normal approximation."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr
from scipy.stats import beta

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

TAILS = np.array([0.025, 0.975])  # of every 95 % interval
DIGITS = 12  # the Fourier sum in `swap_p` rounds at the 16th; more would be noise
RESOLUTION = 10.0**-DIGITS  # a smaller p is given as this


def clopper_pearson(hits: Floats, trials: Floats) -> tuple[Floats, Floats]:
    """Exact binomial 95 % bounds of hits / trials, entry by entry; 0 and 1 without trials."""
    misses = trials - hits
    low = np.where(hits > 0, beta.ppf(TAILS[0], np.maximum(hits, 1), misses + 1), 0.0)
    high = np.where(misses > 0, beta.ppf(TAILS[1], hits + 1, np.maximum(misses, 1)), 1.0)
    return np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)


def mcnemar(only_first: int, only_second: int) -> tuple[float, float]:
    """Two-sided p of samples on which one of two did and the other did not: exact, and mid-p.

    The mid-p counts what was seen half in either tail. Both suppose that samples are independent.
    """
    n, least = only_first + only_second, min(only_first, only_second)
    up_to = [float(bdtr(k, n, 0.5)) if k >= 0 else 0.0 for k in (least - 1, least)]
    return min(1.0, 2 * up_to[1]), min(1.0, sum(up_to))


def swap_p(differences: Integers) -> float:
    """Two-sided p of the sum of the differences if each could as well have had the other sign.

    differences: (clusters,), whole numbers. This is the permutation test that swaps two labels cluster by cluster, over
    all swaps at once: the chance of each sum comes from its characteristic function, the product of cos(d t). With
    differences of 1 only it is the exact McNemar test.
    """
    counted = np.bincount(np.abs(differences))
    sizes = np.flatnonzero(counted[1:]) + 1
    if not len(sizes):
        return 1.0
    counts = counted[sizes]
    unit = np.gcd.reduce(sizes)
    sizes, total = sizes // unit, abs(int(differences.sum())) // int(unit)
    # A sum is farther than 10 standard deviations from 0 with a chance below 4e-22 (Hoeffding's inequality).
    reach = min(float(sizes @ counts), 10 * float(np.sqrt(sizes**2 @ counts)))
    if total > reach:
        return RESOLUTION
    length = 2 ** int(np.ceil(np.log2(2 * reach + 2)))
    angles = 2 * np.pi / length * np.arange(length // 2 + 1)
    spectrum = np.prod(np.cos(np.outer(sizes, angles)) ** counts[:, None], axis=0)
    chances = np.fft.irfft(spectrum, length)[: length // 2 + 1]  # of the sums 0, 1, ..., and of their negatives
    tail = float(chances[total:].sum()) if total else 0.5
    return min(1.0, max(round(2 * tail, DIGITS), RESOLUTION))
