"""VTW (arXiv 2405.05803): all visual tokens leave before one decoder layer.

There is nothing to rank: layers before the withdrawal read every visual token, the others read none. The only knob
is the depth, and the budget sets it.

The authors find a depth with a few samples: for every candidate layer j from 5 to the last, the prompt runs with
withdrawal before j, and the logits of its last token are compared with those of the full run by KL(withdrawn ||
full). The depth is the first candidate whose mean over the samples is at most eta (0.003 for LLaVA-1.5-7B, 0.0005
for 13B, 0.0001 for LLaVA-v1.6-7B). That search is the method `vtw_search`; it sets its own count.

Deviations: where no candidate comes down to eta, the published search stops with an index error; lofi names the
smallest mean that was reached. It compares in float64.
"""

import torch
from torch import Tensor

from lofi.errors import UserError
from lofi.methods.context import Selection
from lofi.methods.decoder import DecoderView

FIRST_CANDIDATE = 5  # of 32 layers; the authors try none before it


def vtw(view: DecoderView, k: int, /, *, seed: int) -> Selection:
    """Refuses to keep k visual tokens: they leave together, and the stage that keeps none is not a choice."""
    raise ValueError(f"vtw withdraws all visual tokens at once, so it cannot keep {k} of them at layer {view.layer}")


def vtw_search(view: DecoderView, k: int, /, *, seed: int, eta: float = 0.003) -> Selection:
    """The same at the depth that the authors' search finds; eta has done its work by then."""
    return vtw(view, k, seed=seed)


def divergences(full: Tensor, withdrawn: Tensor) -> Tensor:
    """(m, c) KL(withdrawn || full) of m samples and c candidates, from logits (m, w) and (m, c, w); float64."""
    if not bool(torch.isfinite(full).all() and torch.isfinite(withdrawn).all()):
        raise ValueError("logits hold NaN or infinity: no depth can be chosen by them")
    expected, found = full.double().log_softmax(-1)[:, None], withdrawn.double().log_softmax(-1)
    return (found.exp() * (found - expected)).sum(-1)


def choose_depth(full: Tensor, withdrawn: Tensor, eta: float, first: int = FIRST_CANDIDATE) -> int:
    """The first layer whose mean divergence is at most eta; candidate i of `withdrawn` (m, c, w) is layer first + i."""
    means = divergences(full, withdrawn).mean(0)
    found = (means <= eta).nonzero()
    if not len(found):
        raise UserError(
            f"no layer from {first} to {first + len(means) - 1} comes down to eta {eta}; "
            f"the smallest mean divergence is {float(means.min()):.3g}, so use a larger eta"
        )
    return first + int(found[0])
