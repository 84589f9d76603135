"""Attention over packed rows that computes no pair of tokens of different questions.

A row holds a prefix and, behind it, the same number of columns for each of its questions. Under one mask over all
columns a kernel multiplies every question with every other and throws the products away: for 18 questions behind 71
tokens that is six of seven products. Here the prefix attends to itself, and all questions attend to the prefix in one
product and to themselves in small ones.
"""

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
    **_others: Any,
) -> tuple[Tensor, None]:
    """Query (b, h, s, w), key and value (b, g, s', w), h a multiple of g; the mask (b, 1, p, p') is the prefix's.

    There are more keys than queries where the decoder has read a part of the prefix before. A question sees the
    prefix and, causally, itself. Its padding comes last, so no token of it sees that.
    """
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
            packed.questions,
            real[row],
        )
        for row in range(len(query))  # one after the other: the weights of one are (h, n, p' + t) numbers
    ]
    return torch.cat([of_prefix, torch.stack(of_questions)], 2).transpose(1, 2), None


def _attend_questions(
    query: Tensor, prefix: tuple[Tensor, Tensor], own: tuple[Tensor, Tensor], questions: int, real: Tensor
) -> Tensor:
    """The n question columns of one row: query (h, n, w), scaled, to (h, n, w); heads that share keys are one."""
    h, n, w = query.shape
    g, t, r = len(own[0]), n // questions, h // len(own[0])
    shared = query.reshape(g, r * n, w) @ prefix[0].mT  # (g, r n, p)
    if not bool(real.all()):
        shared = shared.masked_fill(~real, -torch.inf)
    blocks = query.view(g, r, questions, t, w).transpose(1, 2).reshape(g, questions, r * t, w)
    scores = (blocks @ own[0].reshape(g, questions, t, w).mT).view(g, questions, r, t, t)
    later = torch.ones(t, t, dtype=torch.bool, device=query.device).triu(1)
    mine = scores.masked_fill(later, -torch.inf).transpose(1, 2).reshape(g, r * n, t)
    weights = torch.cat([shared, mine], -1).softmax(-1)
    p = shared.shape[-1]
    inner = weights[..., p:].view(g, r, questions, t, t).transpose(1, 2).reshape(g, questions, r * t, t)
    mixed = (inner @ own[1].reshape(g, questions, t, w)).view(g, questions, r, t, w).transpose(1, 2)
    return (weights[..., :p] @ prefix[1]).view(h, n, w) + mixed.reshape(h, n, w)


AttentionInterface.register(PACKED, attend)
