"""Stored numbers of a decoder as the reducers inside the LLM see them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from lofi.methods.context import Selection
from lofi.methods.decoder import DecoderView


@dataclass
class StoredDecoderAttention:
    """Queries and keys (heads, s, w) by layer. What is not stored must not be asked for."""

    rotated: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)  # layer -> queries and keys
    plain: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)  # the same before rotary embedding
    scales: dict[int, float] = field(default_factory=dict)

    def queries(self, layer: int, *, rotary: bool = True) -> Tensor:
        return (self.rotated if rotary else self.plain)[layer][0]

    def keys(self, layer: int, *, rotary: bool = True) -> Tensor:
        return (self.rotated if rotary else self.plain)[layer][1]

    def scale(self, layer: int) -> float:
        return self.scales[layer]


def attention_of_weights(layer: int, weights: Tensor, *, rotary: bool = True) -> StoredDecoderAttention:
    """Queries and keys whose attention is `weights` (heads, s, s), or (heads, s) for the last query alone.

    log p against the identity softmaxes back to p where the row sums to 1. In float64, so that the detour rounds
    nothing. Rows before a last row that is given alone attend evenly.
    """
    heads, s = weights.shape[0], weights.shape[-1]
    logits = weights.double().clamp_min(torch.finfo(torch.float64).tiny).log()
    if weights.ndim == 2:
        last, logits = logits, logits.new_zeros(heads, s, s)
        logits[:, -1] = last
    pair = {layer: (logits, torch.eye(s, dtype=torch.float64).expand(heads, s, s))}
    return StoredDecoderAttention(pair if rotary else {}, {} if rotary else pair, {layer: 1.0})


def attention_of_states(
    layer: int,
    normed: Tensor,
    wq: Tensor,
    wk: Tensor,
    rotary: tuple[Tensor, Tensor],
) -> StoredDecoderAttention:
    """Queries and keys of a layer from its normed input (s, d) and its weights [out, in]; key heads are repeated."""
    width = rotary[0].shape[1]
    queries, keys = ((normed @ w.T).unflatten(1, (-1, width)).transpose(0, 1) for w in (wq, wk))
    keys = keys.repeat_interleave(len(queries) // len(keys), 0)
    turned = rotated(queries, rotary), rotated(keys, rotary)
    return StoredDecoderAttention({layer: turned}, {layer: (queries, keys)}, {layer: width**-0.5})


def rms_norm(hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
    """(s, d) the states as a layer reads them."""
    return hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + eps) * weight


def rotary_of(positions: Tensor, width: int, base: float = 10000.0) -> tuple[Tensor, Tensor]:
    """cos and sin (s, width) of positions (s,), the two halves alike."""
    rates = 1.0 / base ** (torch.arange(0, width, 2).float() / width)
    angles = (positions.float()[:, None] * rates).repeat(1, 2)
    return angles.cos(), angles.sin()


def rotated(states: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """(heads, s, w) with rotary embedding: each half turned against the other."""
    first, second = states.chunk(2, -1)
    return states * rotary[0] + torch.cat([-second, first], -1) * rotary[1]


def view(s: int, start: int, v: int, **fields: Any) -> DecoderView:
    """A prompt of s tokens of which v, from column `start` on, are visual. `fields` replace the defaults."""
    hidden = fields.get("hidden", torch.zeros(s, 4))
    n = fields.get("n", v)
    side = isqrt(n)
    defaults: dict[str, Any] = {
        "layer": 2,
        "depth": 32,
        "hidden": hidden,
        "previous": hidden,
        "normed": hidden,
        "visual": torch.arange(start, start + v),
        "text": torch.arange(start + v, s),
        "places": torch.arange(v),
        "n": n,
        "grid": (side, side) if side * side == n else (1, n),
        "entry_visual": hidden.new_zeros(n, hidden.shape[1]),
        "entry_text": hidden.new_zeros(s - start - v, hidden.shape[1]),
        "attention": StoredDecoderAttention(),
        "rotary": (torch.ones(s, 4), torch.zeros(s, 4)),
        "image_key": 1,
    }
    return DecoderView(**{**defaults, **fields})


def columns(seen: DecoderView, selection: Selection) -> list[int]:
    """The columns of the prompt that go on after a selection that merges nothing, ascending."""
    going = torch.ones(len(seen.hidden), dtype=torch.bool)
    going[seen.visual] = False
    going[seen.visual[selection.kept]] = True
    return list(going.nonzero().squeeze(1).tolist())


def placed(positions: str, before: Sequence[int], kept: Sequence[int]) -> list[int]:
    """The positions of the kept columns under the policy `kept` or `reindexed`, from those of all columns."""
    return [before[column] for column in kept] if positions == "kept" else list(range(len(kept)))
