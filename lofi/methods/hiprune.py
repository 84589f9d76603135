"""HiPrune (arXiv 2508.00553): what the middle of the encoder looks at with its neighbours, then what its end looks at.

The score is the attention that a patch receives: softmax, mean over heads and over all queries, the CLS token's
included where there is one. So the method needs no CLS token.

    anchors     the round(k alpha / 5) tokens with the largest score in the object layer, the ninth of 24; in an
                encoder of another depth the layer at the same share of the way
    neighbours  one step left, right, up and down of every anchor
    the rest    up to k: the tokens with the largest score in the layer that gives the features

With the default alpha of 0.1 about nine in ten tokens come by the last rule.

Deviations: a neighbour is a step of 1 or of one row in raster order, as in the code: left of a row's first token
stands the last one of the row above, and steps beyond the image end at its first or last token. The code keeps chosen
tokens out of the last rule by subtracting 1, which scores above 1 survive; lofi leaves them out for certain. Where
anchors and neighbours are more than k (small k with a large alpha), the code keeps them all; lofi keeps the k of them
with the largest score in the object layer, so that anchors go last. Half of an anchor rounds to the even number, as
in Python.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lofi.methods.context import Selection, VisualContext, best_first, encoder_layer, finite

OBJECT_LAYER = 8  # of the 24 of CLIP-L, from 0
CROSS = 5  # tokens of an anchor with its neighbours


def anchor_count(k: int, alpha: float) -> int:
    """How many anchors: with four neighbours each about the share alpha of k tokens."""
    return round(k * alpha / CROSS)


def with_neighbours(anchors: Tensor, width: int, n: int) -> Tensor:
    """The anchors (a,) and the tokens beside, above and below them in a raster of that width; ascending, no doubles."""
    steps = torch.tensor([0, -1, 1, -width, width], device=anchors.device)
    near = torch.zeros(n, dtype=torch.bool, device=anchors.device)
    near[(anchors[:, None] + steps).clamp(0, n - 1).flatten()] = True
    return near.nonzero().squeeze(1)


def hiprune(context: VisualContext, ks: Sequence[int], /, *, seed: int, alpha: float = 0.1) -> list[Selection]:
    """Anchors, their neighbours, and the most attended of the others; two rankings serve all of `ks`."""
    attention = context.attention
    if attention is None:
        raise ValueError("this model's encoder gives no attention")
    layers = encoder_layer(OBJECT_LAYER, attention.depth), context.feature_layer
    middle, end = (best_first(finite(attention.received(layer), layer)) for layer in layers)
    selections = []
    for k in ks:
        crosses = with_neighbours(middle[: anchor_count(k, alpha)], context.grid[1], len(context))
        chosen = middle[torch.isin(middle, crosses)][:k]
        rest = end[~torch.isin(end, chosen)][: k - len(chosen)]
        selections.append(Selection(torch.cat([chosen, rest]).sort().values))
    return selections
