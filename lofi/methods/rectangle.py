"""Which token counts fill a rectangle of a grid. Imports no torch: the config check calls it."""

from fractions import Fraction

from lofi.errors import UserError

# A rectangle whose aspect is further off is a strip, not a coarser image: 23 of 24 x 24 tokens fill nothing but 23 x 1.
# One count of a sweep would then be a strip and its neighbours none.
WIDEST = 4


def reachable(grid: tuple[int, int]) -> list[int]:
    """Every count that some rectangle of the grid (h, w) has, ascending."""
    height, width = grid
    sides = [(kh, kw) for kh in range(1, height + 1) for kw in range(1, width + 1)]
    return sorted({kh * kw for kh, kw in sides if _stretch((kh, kw), grid) <= WIDEST})


def rectangle(k: int, grid: tuple[int, int]) -> tuple[int, int]:
    """The (kh, kw) with kh * kw == k inside the grid (h, w) whose aspect is nearest to the grid's.

    Nearest as a ratio; of two equally near ones, the one with more rows. A count without one whose aspect is within
    `WIDEST` times that of the grid is refused.
    """
    height, width = grid
    fits = [(kh, k // kh) for kh in range(1, height + 1) if k >= 1 and k % kh == 0 and k // kh <= width]
    fits = [fit for fit in fits if _stretch(fit, grid) <= WIDEST]
    if not fits:
        counts = reachable(grid)
        near = sorted([c for c in counts if c < k][-2:] + [c for c in counts if c > k][:2])
        raise UserError(
            f"{k} tokens fill no rectangle of a {height} x {width} grid; counts near it that do, "
            f"at most {WIDEST} times off its aspect: " + ", ".join(map(str, near))
        )
    return min(fits, key=lambda fit: (_stretch(fit, grid), -fit[0]))


def _stretch(fit: tuple[int, int], grid: tuple[int, int]) -> Fraction:
    """How many times the aspect of `fit` exceeds that of `grid`, or the reverse: 1 is the same aspect."""
    ratio = Fraction(fit[0] * grid[1], fit[1] * grid[0])
    return max(ratio, 1 / ratio)
