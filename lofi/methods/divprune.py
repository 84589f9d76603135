"""DivPrune (arXiv 2503.02175): the k tokens that lie farthest apart, chosen greedily (max-min diversity).

On d = 1 - cosine of the projected tokens: first the token whose nearest neighbour is farthest, then again and
again the token whose distance to the chosen ones is largest.

Deviations: chosen tokens are masked. The authors' code relies on their distance to themselves being the smallest,
which rounding breaks among duplicates, and then a token comes twice. Of an any-resolution image the authors choose
among newline tokens too; lofi chooses among the tokens of the image alone.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lofi.methods.context import Selection, VisualContext, prefixes
from lofi.methods.similarity import cosines


def max_min_order(tokens: Tensor, count: int) -> Tensor:
    """The first `count` tokens (n, d) in greedy order: (count,) long. float32; lower index first on ties.

    One n x n product, then O(n) for each choice; the choices are small, so they run on the CPU. A token of length zero
    is at distance 1 from every other.
    """
    distance = (1.0 - cosines(tokens)).fill_diagonal_(torch.inf).cpu().numpy()
    order = np.empty(count, np.int64)
    score = distance.min(0)  # to the nearest other token
    nearest = np.full_like(score, np.inf)  # to the nearest chosen token; -inf once chosen itself
    for step in range(count):
        choice = int(score.argmax())  # the first of equal ones
        order[step] = choice
        np.minimum(nearest, distance[choice], out=nearest)
        nearest[choice] = -np.inf
        score = nearest
    return torch.from_numpy(order).to(tokens.device)


def divprune(context: VisualContext, ks: Sequence[int], /, *, seed: int) -> list[Selection]:
    """The first k tokens of the greedy order."""
    return prefixes(max_min_order(context.projected, max(ks, default=0)), ks)
