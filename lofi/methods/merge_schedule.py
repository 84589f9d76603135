"""How many tokens each block of an encoder merges away, so that a count is met. Light: no torch."""

from lofi.errors import UserError


def schedule(n: int, k: int, blocks: int) -> list[int]:
    """How many rows each block merges away so that k of n remain."""
    for r in range(-(-(n - k) // blocks), n // 2 + 1):
        steps = _steps(n, k, blocks, r)
        if sum(steps) == n - k:
            return steps
    fewest = n - sum(_steps(n, 1, blocks, n))
    raise UserError(
        f"{blocks} encoder blocks, each of which merges at most half of its tokens, cannot come down to {k} of {n}; "
        f"use a count from {fewest} to {n}"
    )


def _steps(n: int, k: int, blocks: int, r: int) -> list[int]:
    """How many each block merges: r, but never more than half of its rows nor more than is left to do."""
    steps, left = [], n
    for _ in range(blocks):
        steps.append(min(r, left // 2, left - k))
        left -= steps[-1]
    return steps
