"""What a reducer inside the LLM may look at: one prompt on its way into one decoder layer."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from lofi.methods.context import Selection


class DecoderAttention(Protocol):
    """Queries and keys of a decoder layer for the s tokens that stand before this stage, made when asked for.

    `layer` is the layer of the stage or the one before it. Never a full attention map: a reducer asks for rows.
    """

    def queries(self, layer: int, *, rotary: bool = True) -> Tensor:
        """(heads, s, w) queries of the s tokens, float32, with or without rotary position embedding."""

    def keys(self, layer: int, *, rotary: bool = True) -> Tensor:
        """(heads, s, w) keys, float32, repeated where several heads of queries share one."""

    def scale(self, layer: int) -> float:
        """What the layer multiplies q . k by before the softmax."""


@dataclass(frozen=True)
class DecoderView:
    """One prompt of s tokens that is about to enter decoder layer `layer`."""

    layer: int
    depth: int  # layers of the decoder
    hidden: Tensor  # (s, d) what would enter `layer`
    previous: Tensor  # (s, d) the same tokens as they entered layer - 1
    normed: Tensor  # (s, d) `hidden` after the decoder's final norm
    visual: Tensor  # (v,) long: columns of the visual tokens, ascending
    text: Tensor  # (t,) long: columns of the tokens after the image
    places: Tensor  # (v,) long: raster places of the visual tokens among the n; merged ones stand at a centre's
    n: int  # visual tokens before any pruning
    grid: tuple[int, int]
    entry_visual: Tensor  # (n, d) the visual tokens as they entered layer 0
    entry_text: Tensor  # (t, d) the tokens after the image as they entered layer 0
    attention: DecoderAttention
    rotary: tuple[Tensor, Tensor]  # cos and sin (s, w) of the tokens' positions, w the width of a head
    image_key: int  # 63 bits of the image's hash, for reducers that draw random numbers


class Stagewise(Protocol):
    """A reducer inside the LLM, at one stage: which of the v visual tokens go on.

    `kept` of the selection counts within the v tokens of the view; where the method merges, `embeds` (k, d) are the
    states that go on in place of the visual ones, in their order, and `places` counts within the v tokens too.
    """

    def __call__(self, view: DecoderView, k: int, /, *, seed: int, **params: Any) -> Selection:
        """Select k visual tokens."""


def attention_rows(view: DecoderView, rows: Tensor, *, layer: int, rotary: bool = True) -> Tensor:
    """(heads, r, s) float32 softmaxed attention of the query columns `rows` (r,) ascending, under the causal mask."""
    attention = view.attention
    queries, keys = attention.queries(layer, rotary=rotary)[:, rows], attention.keys(layer, rotary=rotary)
    logits = queries @ keys.mT * attention.scale(layer)
    columns = torch.arange(keys.shape[1], device=rows.device)
    weights: Tensor = logits.masked_fill(columns > rows[:, None], -torch.inf).softmax(-1)
    return finite(weights, layer)


def last_row(view: DecoderView, *, layer: int, rotary: bool = True) -> Tensor:
    """(v,) attention of the last prompt token to each visual token: softmax over all tokens, mean over heads."""
    last = torch.tensor([len(view.hidden) - 1], device=view.hidden.device)
    return attention_rows(view, last, layer=layer, rotary=rotary)[:, 0, view.visual].mean(0)


def finite(scores: Tensor, layer: int) -> Tensor:
    """The same scores; NaN or infinity is an error that names the layer."""
    if not bool(torch.isfinite(scores).all()):
        raise ValueError(f"the scores at decoder layer {layer} hold NaN or infinity")
    return scores
