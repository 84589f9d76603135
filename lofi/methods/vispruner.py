"""VisPruner (arXiv 2412.01818): some tokens by the encoder's attention, the others for being unlike each other.

int(k * important) tokens are those that the CLS token attends to most (mean over heads, the layer that produced the
features). All other tokens form a list, highest attention first, that shrinks in rounds until as many are left as are
still wanted. One round splits the list into its even places A and its odd places B, scores each token of A by its
largest cosine to a token of B (encoder features, before the projector), drops up to 8 of those with the largest, and
goes on with the other tokens of A, most similar first, and then B. The order after a round decides the next split.

The trace holds the number of rounds. The kept set is sensitive to the last digits of the features: where two scores
swap places, one split changes, and with it all that follow. So compare runs only in the same dtype.

Deviations: the cosines are float64 where the authors take the model's dtype, because float32 cannot tell some scores
apart, and the outcome can then depend on the linear algebra library. The authors' code fails where a round meets a
list of odd length, or wants to drop more tokens than A holds; that is about half of all k. In lofi A then has one
token more than B, and a round drops at most all of A, which changes nothing where the authors' code runs. Where the
encoder has no CLS token, the attention that a token receives stands in for it, as in the authors' code, but of the
layer that produced the features; theirs reads the last layer.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lofi.methods.context import Selection, VisualContext, best_first, saliency
from lofi.methods.similarity import cosines

DROP = 8  # tokens that a round drops at most


def diverse(ranking: Tensor, nearness: Tensor, count: int) -> tuple[Tensor, int]:
    """The `count` tokens of the ranking (m,) that survive all rounds, in list order, and the number of rounds.

    nearness: (n, n) float64 cosines of all tokens; the ranking holds indices into it. Rounds are small, so they run on
    the CPU.
    """
    near, left, rounds = nearness.cpu().numpy(), ranking.cpu().numpy(), 0
    while len(left) > count > 0:
        even, odd = left[0::2], left[1::2]
        drop = min(DROP, len(left) - count, len(even))
        beside = np.full(len(near), -np.inf)
        beside[odd] = 0.0  # whole rows, with all but B out of the running: faster than to pick A x B from the matrix
        score = (near[even] + beside).max(1)
        left = np.concatenate([even[np.argsort(-score, kind="stable")[drop:]], odd])
        rounds += 1
    return torch.from_numpy(left[:count]).to(ranking.device), rounds


def vispruner(context: VisualContext, ks: Sequence[int], /, *, seed: int, important: float = 0.5) -> list[Selection]:
    """int(k * important) tokens by attention, the rest by diversity; ranking and cosines serve all of `ks`."""
    ranking = best_first(saliency(context))
    nearness = cosines(context.hidden, dtype=torch.float64)
    selections = []
    for k in ks:
        attended = int(k * important)
        others, rounds = diverse(ranking[attended:], nearness, k - attended)
        kept = torch.cat([ranking[:attended], others]).sort().values
        selections.append(Selection(kept, trace={"rounds": float(rounds)}))
    return selections
