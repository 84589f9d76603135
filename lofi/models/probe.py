"""Queries and keys of any decoder layer, through the layer's own attention module.

A probe runs the module on hidden states with an attention function that takes the queries and keys it is given and
attends to nothing. So projections, head norms and rotary embedding are the library's own, for every family, and no
attention map is ever made.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from lofi.models.adapter import Adapter
from lofi.models.swapped import attending_by

PROBE = "lofi_probe"
Rotary = tuple[Tensor, Tensor]  # cos and sin (b, s, w)


class _Seen(Exception):
    """Carries queries and keys out of an attention module: nothing after them is wanted."""

    def __init__(self, queries: Tensor, keys: Tensor) -> None:
        super().__init__()
        self.queries, self.keys = queries, keys


def _leave(_module: nn.Module, query: Tensor, key: Tensor, *_: Any, **__: Any) -> None:
    raise _Seen(query, key)


AttentionInterface.register(PROBE, _leave)


def probe(adapter: Adapter, layer: int, hidden: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor]:
    """Queries and keys (b, heads, s, w) of a decoder layer for the states (b, s, d) that enter it.

    Keys are repeated where several heads of queries share one.
    """
    block = adapter.layers[layer]
    attention, norm = block.get_submodule(adapter.family.attention), block.get_submodule(adapter.family.attention_norm)
    try:
        with attending_by(adapter.language.config, PROBE):
            attention(hidden_states=norm(hidden), position_embeddings=rotary, attention_mask=None, past_key_values=None)
    except _Seen as seen:
        shared = seen.queries.shape[1] // seen.keys.shape[1]
        keys = seen.keys.repeat_interleave(shared, dim=1)
        return seen.queries.to(hidden.device), keys.to(hidden.device)
    raise RuntimeError(f"{type(attention).__name__} of layer {layer} did not go through the attention interface")


def without_rotary(rotary: Rotary) -> Rotary:
    """The rotation by nothing."""
    cos, sin = rotary
    return torch.ones_like(cos), torch.zeros_like(sin)


class Probes:
    """Queries and keys of all rows at one stage, made once."""

    def __init__(self, adapter: Adapter, states: Mapping[int, Tensor], rotary: Mapping[int, Rotary]) -> None:
        self._adapter, self._states, self._rotary = adapter, states, rotary  # by layer
        self._made: dict[tuple[int, bool], tuple[Tensor, Tensor]] = {}

    def get(self, layer: int, rotary: bool) -> tuple[Tensor, Tensor]:
        """Queries and keys (b, heads, s, w)."""
        if (layer, rotary) not in self._made:
            turned = self._rotary[layer] if rotary else without_rotary(self._rotary[layer])
            self._made[layer, rotary] = probe(self._adapter, layer, self._states[layer], turned)
        return self._made[layer, rotary]

    def scale(self, layer: int) -> float:
        """What the layer multiplies its logits by."""
        module: Any = self._adapter.layers[layer].get_submodule(self._adapter.family.attention)
        return float(module.scaling)

    def of(self, row: int, columns: Tensor) -> "RowAttention":
        """The real columns of one row."""
        return RowAttention(self, row, columns)


@dataclass(frozen=True)
class RowAttention:
    """Queries and keys of one row, as `lofi.methods.decoder.DecoderAttention` promises them."""

    probes: Probes
    row: int
    columns: Tensor

    def queries(self, layer: int, *, rotary: bool = True) -> Tensor:
        """(heads, s, w) queries."""
        return self.probes.get(layer, rotary)[0][self.row][:, self.columns].float()

    def keys(self, layer: int, *, rotary: bool = True) -> Tensor:
        """(heads, s, w) keys."""
        return self.probes.get(layer, rotary)[1][self.row][:, self.columns].float()

    def scale(self, layer: int) -> float:
        """What the layer multiplies its logits by."""
        return self.probes.scale(layer)
