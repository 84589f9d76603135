"""Stored numbers of a decoder as the reducers inside the LLM see them."""

from dataclasses import dataclass, field
from math import isqrt
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

from lofi.methods.context import Selection
from lofi.methods.decoder import DecoderView
from lofi.models.families import FAMILIES
from lofi.models.probe import Probes, RowAttention
from lofi.models.staged import Columns


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


class StoredLayer:
    """What `Probes` reads of a model: one decoder layer, of the architecture that LLaVA's decoder has.

    Its weights wq, wk [out, in] and norm (d,) are stored; nothing else of it is read.
    """

    family = FAMILIES["llava"]

    def __init__(
        self, layer: int, wq: Tensor, wk: Tensor, norm: Tensor, *, width: int, eps: float, base: float = 10000.0
    ) -> None:
        self._index, heads, shared = layer, len(wq) // width, len(wk) // width
        config = llama_config(width, base, hidden_size=len(norm), heads=heads, key_heads=shared, eps=eps)
        block = LlamaDecoderLayer(config, 0)
        block.input_layernorm.weight.data = norm
        block.self_attn.q_proj.weight.data, block.self_attn.k_proj.weight.data = wq, wk
        self.layers, self.language = {layer: block}, SimpleNamespace(config=config)

    @torch.no_grad()
    def attention(self, hidden: Tensor, rotary: tuple[Tensor, Tensor]) -> RowAttention:
        """Queries and keys, which the product makes from the states (s, d) that enter the layer."""
        turned = rotary[0][None], rotary[1][None]
        row = Probes(self, {self._index: hidden[None]}, {self._index: turned}).of(0, torch.arange(len(hidden)))
        row.queries(self._index)  # made here, without gradients, and kept
        row.queries(self._index, rotary=False)
        return row


def llama_config(
    width: int, base: float, *, hidden_size: int = 8, heads: int = 1, key_heads: int = 1, eps: float = 1e-5
) -> LlamaConfig:
    """The configuration of a decoder of one layer."""
    return LlamaConfig(
        hidden_size=hidden_size,
        intermediate_size=1,
        num_hidden_layers=1,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        head_dim=width,
        rms_norm_eps=eps,
        rope_parameters={"rope_type": "default", "rope_theta": base},
    )


def rotary_of(positions: Tensor, width: int, base: float = 10000.0) -> tuple[Tensor, Tensor]:
    """cos and sin (s, width) of positions (s,), as the library makes them."""
    cos, sin = LlamaRotaryEmbedding(llama_config(width, base))(torch.empty(0), positions[None])
    return cos[0], sin[0]


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


def going_on(
    seen: DecoderView, selection: Selection, policy: str = "kept", positions: Tensor | None = None
) -> tuple[list[int], list[int]]:
    """The columns of the prompt that go on after a selection, as `PruneInDecoder` cuts it, and their positions.

    `positions` (s,) are those before; by default the columns themselves.
    """
    s = len(seen.hidden)
    before = torch.arange(s) if positions is None else positions
    prompt = Columns.of(seen.visual[None], torch.ones(1, s, dtype=torch.bool), before.long()[None])
    left, index = prompt.keep(selection.rows[None], policy)
    return index[0].tolist(), left.positions[0].tolist()
