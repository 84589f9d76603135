"""SCOPE (arXiv 2510.24214): tokens that are salient and together cover all tokens, chosen greedily.

S holds the cosines of the encoder features before the projector, w the CLS attention of the layer that produced
them, and cov_i how well token i is covered so far, 0 at first. Each step takes the token j with the largest gain
w_j * sum_i max(0, S_ij - cov_i), and raises cov to max(cov, S_j). The authors sum the attention over the heads and
lofi takes the mean: a common factor, which changes no choice. The exponent that their
code allows on w is at its default, 1.

Deviations: the authors set the gain of chosen tokens to zero, so that one comes twice once no other token gains
anything (no attention, or all covered); lofi never chooses a token twice, and takes the lowest index among equals.
Where the encoder has no CLS token, the attention that a token receives stands in for it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lofi.methods.context import Selection, VisualContext, prefixes, saliency
from lofi.methods.similarity import cosines


def coverage_order(nearness: Tensor, weights: Tensor, count: int) -> Tensor:
    """The first `count` tokens in greedy order: (count,) long; lower index first on ties.

    nearness: (n, n) symmetric cosines. weights: (n,) >= 0, the saliency of each token. O(n^2) for each choice.
    """
    order = torch.empty(count, dtype=torch.long, device=nearness.device)
    chosen = torch.zeros(len(nearness), dtype=torch.bool, device=nearness.device)
    covered = torch.zeros_like(weights)
    for step in range(count):
        gain = weights * (nearness - covered).clamp_min_(0.0).sum(1)
        choice = gain.masked_fill_(chosen, -torch.inf).argmax(keepdim=True)  # the first of equal ones
        order[step : step + 1] = choice
        chosen.index_fill_(0, choice, True)
        covered = torch.maximum(covered, nearness.index_select(0, choice).squeeze(0))
    return order


def scope(context: VisualContext, ks: Sequence[int], /, *, seed: int) -> list[Selection]:
    """The first k tokens of the greedy order; one run serves all of `ks`."""
    order = coverage_order(cosines(context.hidden), saliency(context), max(ks, default=0))
    return prefixes(order, ks)
