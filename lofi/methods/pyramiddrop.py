"""PyramidDrop (arXiv 2410.17247): drop visual tokens in stages, by the attention that the next layer would pay them.

Before each of three decoder layers, that layer's own queries and keys are computed ahead for the tokens that are
left: its input norm, its projections, rotary embedding at their present positions. The score of a visual token is
its entry in the last prompt token's row of that attention: softmax over all tokens, mean over heads. The largest go
on, by default half, a quarter and an eighth of the image's tokens, and the layer runs on the survivors, whose
positions are counted anew without gaps.

Deviations: the published code rounds the row to the model's precision before it ranks, which in half precision
makes ties that no rule decides; lofi ranks in float32, lower index first. It also fails where several heads of
queries share one head of keys; lofi repeats the keys.
"""

from lofi.methods.context import Selection, top
from lofi.methods.decoder import DecoderView, last_row


def pyramiddrop(view: DecoderView, k: int, /, *, seed: int) -> Selection:
    """The k visual tokens with the largest attention of the last row in the layer about to run."""
    return Selection(top(last_row(view, layer=view.layer), k))
