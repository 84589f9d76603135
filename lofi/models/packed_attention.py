"""Attention over packed rows that computes no pair of tokens of different questions.

A row holds a prefix and, behind it, the tokens of its questions, one after the other. Under one mask over all
columns a kernel multiplies every question with every other and throws the products away: for 18 questions behind 71
tokens that is six of seven products. Here the prefix attends to itself, and all questions attend to the prefix in one
product and to themselves in small ones.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface

from lofi.models.packing import Packed

PACKED = "lofi_packed"  # in the library's table of attention functions


def attend(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    *,
    scaling: float,
    packed: Packed,
    ends: bool = False,
    **_others: Any,
) -> tuple[Tensor, None]:
    """Query (b, h, s, w), key and value (b, g, s', w), h a multiple of g; the mask (b, 1, p, p') is the prefix's.

    There are more keys than queries where the decoder has read a part of the prefix before. A question sees the
    prefix and, causally, itself. Its padding comes last, so no token of it sees that. `ends`: each question's last
    token is all that is asked for; the rest is 0.
    """
    if ends:
        return _attend_at_ends(query, key, value, scaling, packed).transpose(1, 2), None
    p = packed.prefix
    n = packed.size - p
    before = key.shape[2] - n
    of_prefix = scaled_dot_product_attention(
        query[:, :, :p],
        key[:, :, :before],
        value[:, :, :before],
        attn_mask=attention_mask,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    # layers may compute on several devices
    real = pad(packed.real[:, :p], (before - p, 0), value=True).to(query.device)
    of_questions = [
        _attend_questions(
            query[row, :, p:] * scaling,
            (key[row, :, :before], value[row, :, :before]),
            (key[row, :, before:], value[row, :, before:]),
            real[row],
            _Blocks.of(packed, row, query.device),
        )
        for row in range(len(query))  # one after the other: the weights of one are (h, n, p' + t) numbers
    ]
    return torch.cat([of_prefix, torch.stack(of_questions)], 2).transpose(1, 2), None


def _attend_at_ends(query: Tensor, key: Tensor, value: Tensor, scaling: float, packed: Packed) -> Tensor:
    """The same tensors to (b, h, s, w), 0 but at each question's last token."""
    at = packed.last.to(query.device)[:, None, :, None].expand(-1, query.shape[1], -1, query.shape[-1])
    seen = pad(packed.own, (key.shape[2] - packed.size, 0), value=True)[:, None].to(query.device)
    grouped = query.shape[1] != key.shape[1]
    mixed = scaled_dot_product_attention(
        query.gather(2, at), key, value, attn_mask=seen, scale=scaling, enable_gqa=grouped
    )
    return torch.zeros_like(query).scatter(2, at, mixed)


@dataclass(frozen=True)
class _Blocks:
    """The n question columns of one row as q blocks of t, and back; None where they are such blocks already."""

    questions: int
    width: int
    places: Tensor | None  # (q * t,) the column of each token; any where a question is shorter
    slots: Tensor | None  # (n,) the token in each column

    @staticmethod
    def of(packed: Packed, row: int, device: torch.device) -> "_Blocks":
        indices = (None, None) if packed.even else (packed.places[row].to(device), packed.slots[row].to(device))
        return _Blocks(packed.questions, packed.width, *indices)

    def cut(self, x: Tensor, groups: int) -> Tensor:
        """(h, n, w) to (g, q, r * t, w), the r heads of a group below each other."""
        x = x if self.places is None else x.index_select(1, self.places)
        h, w = len(x), x.shape[-1]
        blocks = x.view(groups, h // groups, self.questions, self.width, w).transpose(1, 2)
        return blocks.reshape(groups, self.questions, -1, w)

    def join(self, blocks: Tensor, heads: int) -> Tensor:
        """(g, q, r * t, w) to (h, n, w)."""
        g, q, _, w = blocks.shape
        x = blocks.view(g, q, heads // g, self.width, w).transpose(1, 2).reshape(heads, -1, w)
        return x if self.slots is None else x.index_select(1, self.slots)


def _attend_questions(
    query: Tensor, prefix: tuple[Tensor, Tensor], own: tuple[Tensor, Tensor], real: Tensor, blocks: _Blocks
) -> Tensor:
    """The n question columns of one row: query (h, n, w), scaled, to (h, n, w); heads that share keys are one."""
    h, n, w = query.shape
    g, t = len(own[0]), blocks.width
    shared = query.reshape(g, -1, w) @ prefix[0].mT  # (g, r n, p)
    if not bool(real.all()):
        shared = shared.masked_fill(~real, -torch.inf)
    scores = blocks.cut(query, g) @ blocks.cut(own[0], g).mT  # (g, q, r t, t)
    later = torch.ones(t, t, dtype=torch.bool, device=query.device).triu(1).repeat(h // g, 1)
    mine = blocks.join(scores.masked_fill(later, -torch.inf), h).view(g, -1, t)
    weights = torch.cat([shared, mine], -1).softmax(-1)
    p = shared.shape[-1]
    mixed = blocks.cut(weights[..., p:].reshape(h, n, t), g) @ blocks.cut(own[1], g)
    return (weights[..., :p] @ prefix[1]).view(h, n, w) + blocks.join(mixed, h)


AttentionInterface.register(PACKED, attend)
