"""p values adjusted for how many were looked at; one that is not defined stays NaN and counts as no test."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def holm(p: Floats) -> Floats:
    """Holm's step-down p values: the chance of even one false claim in the family stays below the level.

    p: (tests,). The i-th smallest of m becomes the largest of (m - j + 1) p(j) over j <= i, at most 1.
    """
    order, sorted_p = _sorted(p)
    m = len(sorted_p)
    return _placed(p, order, np.maximum.accumulate(sorted_p * (m - np.arange(m))))


def benjamini_hochberg(p: Floats) -> Floats:
    """Benjamini and Hochberg's step-up p values: the expected share of false claims stays below the level.

    p: (tests,). The i-th smallest of m becomes the least of m p(j) / j over j >= i, at most 1.
    """
    order, sorted_p = _sorted(p)
    m = len(sorted_p)
    return _placed(p, order, np.minimum.accumulate((sorted_p * m / (np.arange(m) + 1))[::-1])[::-1])


def _sorted(p: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Where the defined p values stand, from the smallest on, and those values."""
    order = np.argsort(p, kind="stable")
    order = order[np.isfinite(p[order])]
    return order, p[order]


def _placed(p: Floats, order: NDArray[np.int64], adjusted: Floats) -> Floats:
    """Adjusted values back in the order of `p`."""
    result = np.full(len(p), np.nan)
    result[order] = np.minimum(adjusted, 1.0)
    return result
