"""Evenly spaced tokens: what a coarser image would keep, and a baseline that looks at no token.

`grid_1d` spaces k tokens along the raster order, at floor((i + 1/2) n / k): exactly k of them, without the
bias to the beginning that a stride of n // k has. `grid_2d` does so for rows and for columns, with the
rectangle of k tokens whose aspect is nearest to the grid's.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lofi.methods.context import Selection, VisualContext
from lofi.methods.rectangle import rectangle


def centres(n: int, k: int, device: torch.device) -> Tensor:
    """(k,) the places floor((i + 1/2) n / k) in 0..n-1, in whole numbers so that no rounding can move one."""
    return (2 * torch.arange(k, device=device) + 1) * n // (2 * k)


def grid_1d(context: VisualContext, ks: Sequence[int], /, *, seed: int) -> list[Selection]:
    """Keep k tokens evenly spaced in raster order."""
    n, device = len(context.projected), context.projected.device
    return [Selection(centres(n, k, device)) for k in ks]


def grid_2d(context: VisualContext, ks: Sequence[int], /, *, seed: int) -> list[Selection]:
    """Rectangles of kh x kw tokens evenly spaced in rows and columns; a k that is no rectangle is refused."""
    (height, width), device = context.grid, context.projected.device
    selections = []
    for k in ks:
        kh, kw = rectangle(k, context.grid)
        rows, columns = centres(height, kh, device), centres(width, kw, device)
        selections.append(Selection((rows[:, None] * width + columns).flatten()))
    return selections
