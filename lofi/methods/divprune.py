"""DivPrune (arXiv 2503.02175): the k tokens that lie farthest apart, chosen greedily (max-min diversity).

On d = 1 - cosine of the projected tokens: first the token whose nearest neighbour is farthest, then again and
again the token whose distance to the chosen ones is largest.

Deviations: chosen tokens are masked. The authors' code relies on their distance to themselves being the smallest,
which rounding breaks among duplicates, and then a token comes twice. Of an any-resolution image the authors choose
among newline tokens too; lofi chooses among the tokens of the image alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lofi.methods.context import Selection, VisualContext, prefixes
from lofi.methods.similarity import cosines


def max_min_order(tokens: Tensor, count: int) -> Tensor:
    """The first `count` tokens (n, d) in greedy order: (count,) long. float32; lower index first on ties.

    One n x n product, then O(n) for each choice. A token of length zero is at distance 1 from every other.
    """
    distance = 1.0 - cosines(tokens)
    order = torch.empty(count, dtype=torch.long, device=tokens.device)
    score = distance.fill_diagonal_(torch.inf).amin(0)  # to the nearest other token
    nearest = torch.full_like(score, torch.inf)  # to the nearest chosen token; -inf once chosen itself
    for step in range(count):
        choice = score.argmax(keepdim=True)  # the first of equal ones, as torch documents
        order[step : step + 1] = choice
        nearest = torch.minimum(nearest, distance.index_select(0, choice).squeeze(0))
        score = nearest.index_fill_(0, choice, -torch.inf)
    return order


def divprune(context: VisualContext, ks: Sequence[int], /, *, seed: int) -> list[Selection]:
    """The first k tokens of the greedy order."""
    return prefixes(max_min_order(context.projected, max(ks, default=0)), ks)
