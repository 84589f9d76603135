"""V2Drop (arXiv 2509.01552): drop the visual tokens that the last layer changed least.

Before each of three decoder layers, the score of a visual token is the Euclidean length of its change over the
layer before: its state as it would enter this layer minus its state as it entered the previous one. The largest go
on. No attention is read.

Deviations: the published code subtracts in the model's precision, where small changes beside large states round to
ties; lofi subtracts in float32. At its last stage it asks for none and keeps one token; lofi leaves the count of
every stage to the schedule. Ties go to the lower index.
"""

import torch
from torch import Tensor

from lofi.methods.context import Selection, top
from lofi.methods.decoder import DecoderView, finite


def change(view: DecoderView) -> Tensor:
    """(v,) float32 length of what the previous layer added to each visual token."""
    after, before = view.hidden[view.visual].float(), view.previous[view.visual].float()
    return finite(torch.linalg.vector_norm(after - before, dim=1), view.layer)


def v2drop(view: DecoderView, k: int, /, *, seed: int) -> Selection:
    """The k visual tokens that changed most."""
    return Selection(top(change(view), k))
