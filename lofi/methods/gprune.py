"""G-Prune (arXiv 2501.02268): the tokens that gather most when norms flow through a graph of similar tokens.

The graph has an edge between projected tokens with a cosine of at least 0.5. A is the softmax of the cosines over
each row at temperature 0.03, over the edges alone. The Euclidean norms of the tokens, as a row vector, are
multiplied by A five times, and what token j holds then is divided by the number of edges of j, its own included. The
k largest are kept. A token without edges to others keeps its own norm; a token of zeros, which is like no token and
not even like itself, spreads evenly over all.

Deviations: the scores are float32 whatever the model's dtype, so that weights do not vanish. The published code keeps
the line-end tokens of any-resolution images whatever their score; in lofi they are not candidates, and each tile is
reduced by itself.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lofi.methods.context import Selection, VisualContext, best_first, prefixes
from lofi.methods.similarity import cosines

THRESHOLD = 0.5  # the smallest cosine that is an edge
TEMPERATURE = 0.03
STEPS = 5  # how often the norms flow
NO_EDGE = -5000.0  # a logit so low that its weight is exactly 0 beside any edge


def gathered(tokens: Tensor) -> Tensor:
    """(n,) float32 what each of the tokens (n, d) holds after all steps, over its number of edges."""
    nearness = cosines(tokens)
    logits = (nearness / TEMPERATURE).masked_fill_(nearness < THRESHOLD, NO_EDGE)
    flow = logits.softmax(1)
    held: Tensor = torch.linalg.vector_norm(tokens.float(), dim=1)
    for _ in range(STEPS):
        held = held @ flow
    return held / (flow > 0).sum(1)


def gprune(context: VisualContext, ks: Sequence[int], /, *, seed: int) -> list[Selection]:
    """The k tokens that hold most."""
    return prefixes(best_first(gathered(context.projected)), ks)
