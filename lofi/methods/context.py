"""What a reducer may look at, and what it gives back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor


class EncoderAttention(Protocol):
    """Lazy view of one image's encoder attention; nothing is computed before it is asked for.

    Layers count as in Python: -1 is the encoder's last layer, 0 its first.
    """

    def cls(self, layer: int) -> Tensor:
        """(n,) attention of the CLS query: softmax over all tokens, mean over heads, CLS column cut."""

    def received(self, layer: int) -> Tensor:
        """(n,) attention that each patch receives: mean over heads and over all queries."""

    def keys(self, layer: int) -> Tensor:
        """(n, dv) raw keys of the patches, heads side by side, bias included, not scaled."""

    def queries(self, layer: int) -> Tensor:
        """(n, dv) raw queries of the patches, heads side by side, bias included, not scaled."""


@dataclass(frozen=True)
class VisualContext:
    """One image as a reducer sees it: n visual tokens, encoder width dv, LLM width d."""

    hidden: Tensor  # (n, dv) encoder output that the projector reads
    projected: Tensor  # (n, d) what the LLM would read
    grid: tuple[int, int]  # (h, w), raster order, h * w == n
    image_key: int  # 63 bits of the image's hash: one image draws the same random numbers everywhere
    attention: EncoderAttention | None = None  # None where the model has no such encoder
    feature_layer: int = -2  # the encoder layer whose output is `hidden`
    text: Tensor | None = None  # (t, d) question embeddings, for reducers that see the question


@dataclass(frozen=True)
class Selection:
    """The surviving tokens of one image."""

    kept: Tensor  # (k,) long, ascending raster order
    embeds: Tensor | None = None  # (k, d) rows that replace the kept ones, where the method merges
    trace: Mapping[str, float] = field(default_factory=dict)  # rank, mass: what the audit should store


class Reduce(Protocol):
    """A reducer: for one image, one selection per entry of `ks`, so that shared work is done once."""

    def __call__(self, context: VisualContext, ks: Sequence[int], /, *, seed: int, **params: Any) -> list[Selection]:
        """Select `ks` of the image's tokens."""


def best_first(scores: Tensor) -> Tensor:
    """All indices, highest score first, lower index first on ties. NaN is an error, never a rank."""
    if not bool(torch.isfinite(scores).all()):
        raise ValueError("scores hold NaN or infinity: no token can be ranked by them")
    return torch.sort(scores, descending=True, stable=True).indices


def prefixes(ranking: Tensor, ks: Sequence[int]) -> list[Selection]:
    """One nested selection per k: the first k of the ranking, back in raster order."""
    return [Selection(ranking[:k].sort().values) for k in ks]
