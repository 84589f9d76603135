"""FitPrune (arXiv 2409.10197): delete the visual tokens that neither text nor image attends to, in every layer.

In the attention of the layer that just ran, maximum over heads, a visual token's cross score is the sum over the rows
of the tokens after the image, its self score the sum over the visual rows over their number. Those with the smallest
product of the two go. How many go in each layer comes from the authors' table, for 32 layers and 576 tokens,
or from a fit to the model: for a rate alpha, every layer deletes what can go from both score lists at once while
each list keeps a share of 1 - alpha of its sum in the unpruned model; alpha is bisected until the layers' mean count is
the one asked for.

The authors cut between attention and output projection of a layer; everything after is done token by token, so
cutting the next layer's input, as here, is the same. Positions are kept.

Deviations: the paper deletes by the two lists, as the fit does; the authors' code deletes by the product when
it answers, and so does lofi. Ties go to the lower index. Between two published tables lofi blends the counts to
meet the asked mean, and beyond the smallest table (a mean of 73 of 576 tokens) it refuses. The authors' fit
aims at a share of computation and gives the last counts it tried, rounded up; lofi's aims at the mean count, and blends
the counts at both ends of the last interval to meet it. Where a list could lose all but its largest score, the
authors' fit takes the length it found for another list; lofi's keeps the largest.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lofi.errors import UserError
from lofi.methods.context import Selection, best_first, top
from lofi.methods.decoder import DecoderView, finite
from lofi.methods.fitprune_table import blend

WIDTH = 0.01  # of the last interval of alpha


def fitprune(view: DecoderView, k: int, /, *, seed: int) -> Selection:
    """The k visual tokens with the largest product of cross and self attention in the layer before."""
    cross, own = cross_and_self(view)
    return Selection(top(cross * own, k))


def cross_and_self(view: DecoderView) -> tuple[Tensor, Tensor]:
    """Attention (v,) that each visual token got from the text, summed, and from the visual tokens, averaged."""
    layer = view.layer - 1
    cross = peaks(view, view.text, layer=layer)[:, view.visual].sum(0)
    own = peaks(view, view.visual, layer=layer)[:, view.visual].mean(0)
    return cross, own


def peaks(view: DecoderView, rows: Tensor, *, layer: int) -> Tensor:
    """(r, s) attention of the query columns `rows` (r,), maximum over heads; one head at a time in memory."""
    queries, keys = view.attention.queries(layer)[:, rows], view.attention.keys(layer)
    later = torch.arange(keys.shape[1], device=rows.device) > rows[:, None]
    highest, scale = queries.new_zeros(later.shape), view.attention.scale(layer)
    for query, key in zip(queries, keys, strict=True):
        logits = (query @ key.T).mul_(scale).masked_fill_(later, -torch.inf)
        torch.maximum(highest, logits.softmax(-1), out=highest)
    return finite(highest, layer)


def delete_at(alpha: float, cross: Tensor, own: Tensor, total_cross: float, total_own: float) -> Tensor:
    """(g,) ascending indices that a layer deletes at rate alpha, of tokens with these scores (v,).

    The totals are the sums of the same scores over the layer's tokens in the unpruned model.
    """
    gone = torch.ones(len(cross), dtype=torch.bool, device=cross.device)
    for scores, total in ((cross, total_cross), (own, total_own)):
        spared = len(scores) - spare(alpha, scores, total)
        gone[best_first(scores)[:spared]] = False
    return gone.nonzero().squeeze(1)


def spare(alpha: float, scores: Tensor, total: float) -> int:
    """How many of the lowest scores (v,) can go so that the rest sums to 1 - alpha of the total or more.

    The highest score always stays, and where even all together are too few, all stay.
    """
    left = scores.double().sort().values.flip(0).cumsum(0).flip(0)  # what is left without the 0, 1, .. lowest
    enough = int((left >= (1.0 - alpha) * total).sum())
    return max(enough - 1, 0)


def fit(counts_at: Callable[[float], Sequence[float]], target: float) -> list[int]:
    """Whole counts for each layer's input whose mean is the target.

    `counts_at(alpha)` gives the mean count that enters each layer at a rate, over some samples; it is bisected.
    """
    low, high = 0.0, 1.0
    more, fewer = counts_at(low), counts_at(high)
    if not sum(fewer) <= target * len(fewer) <= sum(more):
        least, most = (sum(counts) / len(counts) for counts in (fewer, more))
        raise UserError(f"a layer mean of {target} tokens is outside what FitPrune can fit, {least:.1f} to {most:.1f}")
    while high - low > WIDTH:
        middle = (low + high) / 2
        counts = counts_at(middle)
        if sum(counts) >= target * len(counts):
            low, more = middle, counts
        else:
            high, fewer = middle, counts
    return blend(more, fewer, target)
