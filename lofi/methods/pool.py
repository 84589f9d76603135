"""Average pooling of the token grid: the baseline that merges (arXiv 2511.02650 uses it as a reference).

Adaptive average pooling to kh x kw: cell i of a side of h tokens covers floor(i h / kh) .. ceil((i + 1) h /
kh) - 1. It pools after the projector. Pooling before it is not the same (the projector is not linear) and is
not offered.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from lofi.methods.context import Selection, VisualContext
from lofi.methods.rectangle import rectangle


def middles(n: int, k: int, device: torch.device) -> Tensor:
    """(k,) the place nearest the centre of each cell along a side of n, the lower of two; ascending."""
    i = torch.arange(k, device=device)
    first, last = i * n // k, ((i + 1) * n + k - 1) // k - 1
    return (first + last) // 2


def pool(context: VisualContext, ks: Sequence[int], /, *, seed: int) -> list[Selection]:
    """Means of kh x kw cells in float32, each at its middle token; a k that is no rectangle is refused."""
    height, width = context.grid
    projected = context.projected
    picture = projected.float().T.reshape(1, -1, height, width)
    selections = []
    for k in ks:
        kh, kw = rectangle(k, context.grid)
        means = adaptive_avg_pool2d(picture, (kh, kw)).reshape(-1, k).T.to(projected.dtype)
        rows, columns = middles(height, kh, projected.device), middles(width, kw, projected.device)
        kept = (rows[:, None] * width + columns).flatten()
        selections.append(Selection(kept, means.contiguous()))
    return selections
