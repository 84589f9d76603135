"""p values adjusted for how many were looked at; one that is not defined stays NaN and counts as no test."""

from collections.abc import Callable

import numpy as np
from scipy.stats import false_discovery_control

from lofi.stats.exact import Floats


def holm(p: Floats) -> Floats:
    """Holm's step-down p values: the chance of even one false claim in the family stays below the level.

    p: (tests,). The i-th smallest of m becomes the largest of (m - j + 1) p(j) over j <= i, at most 1.
    """
    return _of_defined(p, _step_down)


def benjamini_hochberg(p: Floats) -> Floats:
    """Benjamini and Hochberg's step-up p values: the expected share of false claims stays below the level.

    p: (tests,).
    """
    return _of_defined(p, false_discovery_control)


def _of_defined(p: Floats, adjust: Callable[[Floats], Floats]) -> Floats:
    """Adjust the p values that are defined, and leave the others."""
    defined = np.isfinite(p)
    result = np.full(len(p), np.nan)
    if defined.any():
        result[defined] = adjust(p[defined])
    return result


def _step_down(p: Floats) -> Floats:
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    return np.minimum(adjusted, 1.0)
