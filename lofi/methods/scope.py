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

from lofi.methods.context import Selection, VisualContext, prefixes, saliency
from lofi.methods.cover import cover_order
from lofi.methods.similarity import cosines


def scope(context: VisualContext, ks: Sequence[int], /, *, seed: int) -> list[Selection]:
    """The first k tokens of the greedy order; one run serves all of `ks`."""
    order = cover_order(cosines(context.hidden), saliency(context), max(ks, default=0))
    return prefixes(order, ks)
