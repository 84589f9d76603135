"""Which token counts fill a rectangle of a grid. Imports no torch: the config check calls it."""

from fractions import Fraction

from lofi.errors import UserError


def reachable(grid: tuple[int, int]) -> list[int]:
    """Every count that some rectangle inside the grid (h, w) has, ascending."""
    height, width = grid
    return sorted({rows * columns for rows in range(1, height + 1) for columns in range(1, width + 1)})


def rectangle(k: int, grid: tuple[int, int]) -> tuple[int, int]:
    """The (kh, kw) with kh * kw == k inside the grid (h, w) whose aspect is nearest to the grid's.

    Nearest as a ratio; of two equally near ones, the one with more rows. A count without one is refused.
    """
    height, width = grid
    fits = [(kh, k // kh) for kh in range(1, height + 1) if k >= 1 and k % kh == 0 and k // kh <= width]
    if not fits:
        counts = reachable(grid)
        near = sorted([c for c in counts if c < k][-2:] + [c for c in counts if c > k][:2])
        raise UserError(
            f"{k} tokens fill no rectangle of a {height} x {width} grid; counts near it that do: "
            + ", ".join(map(str, near))
        )
    return min(fits, key=lambda fit: (_stretch(fit, grid), -fit[0]))


def _stretch(fit: tuple[int, int], grid: tuple[int, int]) -> Fraction:
    """How many times the aspect of `fit` exceeds that of `grid`, or the reverse: 1 is the same aspect."""
    ratio = Fraction(fit[0] * grid[1], fit[1] * grid[0])
    return max(ratio, 1 / ratio)
