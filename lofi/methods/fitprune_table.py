"""FitPrune's published counts, for 32 decoder layers and 576 visual tokens. Light: no torch.

The authors fitted one table for each share of the computation that should go, and printed how many tokens it
deletes inside each layer. Between two tables the counts are blended, in whole tokens and to the asked mean.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import floor

from lofi.errors import UserError

TABLE_TOKENS = 576
TABLE_DEPTH = 32

# Percent of the computation that goes, by the authors' account: tokens deleted inside each layer.
DELETED: dict[int, tuple[int, ...]] = {
    0: (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    10: (0, 0, 1, 2, 1, 0, 1, 4, 5, 5, 11, 4, 2, 2, 0, 0, 1, 1, 2, 4, 2, 10, 1, 1, 1, 2, 1, 1, 0, 1, 0, 0),
    20: (0, 0, 3, 3, 1, 1, 4, 16, 14, 15, 24, 4, 2, 3, 2, 0, 6, 0, 5, 13, 4, 19, 2, 1, 1, 1, 1, 1, 2, 1, 0, 0),
    30: (0, 0, 7, 6, 4, 5, 16, 40, 24, 21, 24, 4, 2, 3, 4, 0, 16, 0, 11, 26, 6, 32, 3, 1, 0, 1, 2, 2, 4, 0, 0, 0),
    40: (0, 1, 21, 13, 14, 11, 41, 53, 29, 15, 14, 5, 1, 4, 5, 1, 26, 1, 13, 28, 6, 27, 2, 1, 0, 0, 1, 1, 2, 0, 0, 0),
    50: (3, 7, 49, 24, 29, 17, 59, 41, 26, 8, 10, 6, 2, 5, 7, 2, 30, 3, 13, 27, 5, 23, 2, 1, 0, 0, 1, 1, 2, 0, 0, 0),
    55: (6, 17, 69, 31, 34, 19, 59, 30, 23, 6, 8, 7, 2, 5, 8, 2, 29, 4, 12, 25, 4, 19, 2, 1, 0, 0, 1, 0, 1, 0, 0, 0),
    60: (14, 33, 89, 36, 36, 20, 55, 21, 18, 4, 7, 5, 2, 5, 7, 4, 26, 5, 11, 24, 4, 18, 2, 1, 0, 0, 1, 0, 1, 0, 0, 0),
    70: (48, 79, 118, 41, 33, 17, 36, 9, 9, 2, 3, 2, 1, 3, 4, 8, 18, 7, 8, 20, 4, 13, 2, 1, 0, 0, 1, 0, 1, 0, 0, 0),
    80: (128, 127, 118, 35, 26, 8, 13, 3, 2, 1, 0, 0, 0, 2, 1, 8, 7, 8, 5, 11, 2, 6, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0),
    90: (262, 153, 80, 19, 13, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 1, 2, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0),
}


def counts_of(deleted: Sequence[int], n: int) -> list[int]:
    """How many of n tokens enter each layer, where each layer deletes that many for the next."""
    return list(accumulate(deleted[:-1], lambda left, gone: left - gone, initial=n))


def table_counts(n: int, depth: int, mean: float) -> list[int]:
    """How many of n tokens enter each of the layers, for that mean over the layers. Counts never rise.

    A mean beyond the tables gives the nearest one: all tokens, or the smallest table.
    """
    if (n, depth) != (TABLE_TOKENS, TABLE_DEPTH):
        raise UserError(f"FitPrune has no table for {n} visual tokens and {depth} layers, only for 576 and 32; fit one")
    tables = [counts_of(deleted, n) for deleted in DELETED.values()]
    for more, fewer in pairwise(tables):
        if mean * depth >= sum(fewer):
            return blend(more, fewer, mean)
    return tables[-1]


def blend(more: Sequence[float], fewer: Sequence[float], mean: float) -> list[int]:
    """Whole counts between two lists of counts that never rise, so that their mean is the nearest to `mean`.

    Rounded by largest remainders, the earlier layer first: among equal whole parts the remainders never rise
    either, so neither do the counts.
    """
    high, low = sum(more), sum(fewer)
    weight = min(1.0, max(0.0, (high - mean * len(more)) / (high - low))) if high > low else 0.0
    # Rounded to undo what floats lose on counts that both lists share.
    exact = [round((1.0 - weight) * a + weight * b, 9) for a, b in zip(more, fewer, strict=True)]
    counts = [floor(value) for value in exact]
    over = round(sum(exact)) - sum(counts)
    for layer in sorted(range(len(counts)), key=lambda i: counts[i] - exact[i])[:over]:
        counts[layer] += 1
    return counts
