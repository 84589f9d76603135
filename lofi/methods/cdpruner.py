"""CDPruner (arXiv 2506.10967): tokens that differ from each other and that the question is about (conditional DPP).

A determinantal point process over the projected tokens. Its kernel is r_i * cosine(x_i, x_j) * r_j, with a
relevance r for each token: the question is embedded by the text half of the CLIP model that the encoder comes
from, in segments of 77 ids; each patch is embedded by the vision half (post-layernorm, then visual projection). The
relevance is the *negated* mean cosine of a patch with the segments (in CLIP, the patches that a text names are the
ones least similar to it), scaled by minimum and maximum, plus 1e-6 before the division. Greedy inference then picks
again and again the token that adds most to the determinant, given the ones picked.

"Answer the question using a single word or phrase." at the end of a question is no part of the text. Without a text
tower or without a question every relevance is 1, a plain DPP; the trace says so (`conditional` is 0).

In an any-resolution image the relevance is scaled over all tiles together and each tile picks its own equal part
of the tokens, the first tiles one more where the parts are not equal, and no tile more than it has.

Deviations: the published code scales the relevance over all images of a batch, so that an image's tokens depend on
the images beside it; lofi scales it over one image. Where all relevances are equal the code divides by zero; lofi
takes 1 for all. The kernel has at most as many independent tokens as the projector has dimensions, and less among
duplicates; beyond that the code takes roots of rounding errors and its choices mean nothing. lofi runs the
recursion in float64 (the code: float32), stops where a token adds no more than 1e-10, and fills up with the most
relevant tokens left, lower index first; `picked` in the trace counts those that the DPP chose itself. Tokens of
length zero are similar to none, where the code gives NaN.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lofi.methods.allotment import fill_up
from lofi.methods.context import Selection, VisualContext, best_first, complement, split_tiles
from lofi.methods.similarity import cosines, unit_rows

SUFFIX = "\nAnswer the question using a single word or phrase."  # the benchmarks' instruction, not the question
FLOOR = 1e-10  # a token that adds less than this lies in the span of the picked ones


def relevance(similarities: Tensor) -> Tensor:
    """(n,) negated mean of the cosines (n, s) with the s segments of the text, scaled over all n rows."""
    opposite = -similarities.mean(1)
    low, high = opposite.min(), opposite.max()
    return (opposite - low + 1e-6) / (high - low) if bool(high > low) else torch.ones_like(opposite)


def conditional_kernel(tokens: Tensor, relevant: Tensor) -> Tensor:
    """(n, n) float64 DPP kernel of the tokens (n, d) with their relevance (n,)."""
    unit = unit_rows(tokens).double()
    weight = relevant.double()
    return weight[:, None] * (unit @ unit.T) * weight


def greedy_map(kernel: Tensor, count: int) -> Tensor:
    """(p,) long: the tokens that raise the determinant of the kernel (n, n) most, in the order of choice.

    p is `count`, or less where no token is left that adds more than `FLOOR`. Rows of an incremental Cholesky
    factor: O(n p) for each choice. The choices are made on the CPU, each being small.
    """
    near = kernel.cpu().numpy()
    gain = near.diagonal().copy()
    factor = np.zeros((count, len(near)))
    order: list[int] = []
    for step in range(count):
        choice = int(gain.argmax())  # the first of equal ones
        if gain[choice] <= FLOOR:
            break
        known = factor[:step, choice] @ factor[:step]
        factor[step] = (near[choice] - known) / np.sqrt(gain[choice])
        gain -= np.square(factor[step])
        gain[choice] = -np.inf
        order.append(choice)
    return torch.tensor(order, dtype=torch.long, device=kernel.device)


def filled(order: Tensor, relevant: Tensor, count: int) -> Tensor:
    """(count,) the order (p,), then the most relevant (n,) of the other tokens, lower index first on ties."""
    left = complement(order, len(relevant))
    return torch.cat([order, left[best_first(relevant[left])]])[:count]


def question_relevance(context: VisualContext) -> Tensor | None:
    """(n,) float32 relevance for the context's question; None where there is no question or no text tower."""
    if context.tower is None or context.question is None:
        return None
    segments = context.tower.segments(context.question.text.removesuffix(SUFFIX))
    return relevance(cosines(context.tower.patches(context.hidden), segments))


def cdpruner(context: VisualContext, ks: Sequence[int], /, *, seed: int) -> list[Selection]:
    """The first k tokens of the greedy order, tile by tile."""
    given = question_relevance(context)
    relevant = torch.ones(len(context), device=context.projected.device) if given is None else given
    parts = split_tiles(context)
    sizes = [len(part) for part in parts]
    weights = torch.split(relevant, sizes)
    shares = [fill_up([0] * len(parts), sizes, range(len(parts)), k) for k in ks]
    most = [max((share[i] for share in shares), default=0) for i in range(len(parts))]
    orders = [
        greedy_map(conditional_kernel(part.projected, weight), count)
        for part, weight, count in zip(parts, weights, most, strict=True)
    ]
    rankings = [filled(*each) for each in zip(orders, weights, most, strict=True)]
    selections = []
    for counts in shares:
        kept = [rankings[i][:count].sort().values + sum(sizes[:i]) for i, count in enumerate(counts)]
        picked = sum(min(len(order), count) for order, count in zip(orders, counts, strict=True))
        trace = {"conditional": float(given is not None), "picked": float(picked)}
        selections.append(Selection(torch.cat(kept), trace=trace))
    return selections
