"""DART (arXiv 2502.11494): keep the visual tokens that duplicate a few pivots least.

Pivots are the 4 visual tokens and the 4 tokens after the image with the largest keys: L1 norm over all heads, in the
layer before the stage. One pivot after the other takes its share of the visual tokens: of those not taken yet, the ones
with the lowest cosine to it, on the states after the decoder's final norm. The visual pivots and
all taken tokens go on; the text pivots only choose. `layer` is the first layer that reads fewer tokens. No attention
is computed.

The order of the pivots changes what is kept, and the authors' order is that of a Python set of the pivots' columns in
the prompt. For whole numbers it depends on the numbers and on how they were listed, and on nothing else; lofi iterates
over the same set. A longer prompt before the image can thus change which tokens are kept, as in the authors' code.

Deviations: the authors' count is always 4 + 8 m, 196, 132 and 68 for the settings that the paper calls 192, 128 and
64. lofi keeps exactly k: where k - 4 does not divide by the 8 pivots, the pivots visited first take one token more; up
to k = 4, the k visual pivots with the largest keys are all. With fewer than 4 tokens after the image, there are
fewer pivots to share k - 4. Ties go to the lower index.
"""

import torch
from torch import Tensor

from lofi.methods.context import Selection, best_first
from lofi.methods.decoder import DecoderView, finite
from lofi.methods.similarity import cosines

PIVOTS = 4  # of the visual tokens, and as many of the text


def dart(view: DecoderView, k: int, /, *, seed: int, layer: int = 2) -> Selection:
    """The k visual tokens least like the pivots; `layer` is for the schedule alone."""
    before = view.layer - 1
    lengths = finite(view.attention.keys(before).abs().sum((0, 2)), before)
    pivots = longest(lengths, view.visual, min(PIVOTS, k))
    queue = visits(pivots, longest(lengths, view.text, PIVOTS)) if k > PIVOTS else pivots[:0]
    likeness = cosines(view.normed[queue], view.normed[view.visual])
    start = torch.isin(view.visual, pivots)
    return Selection(least_alike(likeness, start, k).nonzero().squeeze(1))


def longest(lengths: Tensor, columns: Tensor, count: int) -> Tensor:
    """(p,) those of `columns` with the largest lengths (s,), largest first; all where there are fewer than `count`."""
    return columns[best_first(lengths[columns])[:count]]


def visits(visual: Tensor, text: Tensor) -> Tensor:
    """(p,) the columns of all pivots in the order of CPython's set of them."""
    return torch.tensor(list(set(visual.tolist() + text.tolist())), dtype=torch.long, device=visual.device)


def least_alike(likeness: Tensor, taken: Tensor, k: int) -> Tensor:
    """(v,) true for the k tokens that go on: those `taken` (v,) at the start, and the pivots' shares.

    `likeness` (p, v) holds the cosines of the pivots, in the order of their visits, with the v tokens.
    """
    taken = taken.clone()
    missing = k - int(taken.sum())
    for i, row in enumerate(likeness):
        share = missing // len(likeness) + (i < missing % len(likeness))
        order = best_first(-row)
        taken[order[~taken[order]][:share]] = True
    return taken
