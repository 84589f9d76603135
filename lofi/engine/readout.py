"""From the state at the first answer position to the numbers of a row: options, top tokens, divergence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

TOP = 64


@dataclass(frozen=True)
class Options:
    """The answers a question offers, each with the tokens that may open it."""

    labels: tuple[str, ...]
    forms: tuple[tuple[int, ...], ...]  # per label: bare, space-prefixed, capitalised


@dataclass(frozen=True)
class Choice:
    """What the logits say about the options of one question."""

    token_ids: list[int]  # per label, the likeliest of its forms
    logprobs: list[float]
    label: str  # the restricted argmax
    margin: float  # best minus second


def choose(logp: np.ndarray, options: Options) -> Choice | None:
    """The restricted argmax over the options; None where a question has none. logp: (v,)."""
    if not options.labels:
        return None
    best = [max(forms, key=lambda token: float(logp[token])) for forms in options.forms]
    logprobs = [float(logp[token]) for token in best]
    ranked = sorted(logprobs, reverse=True)
    label = options.labels[int(np.argmax(logprobs))]
    return Choice(best, logprobs, label, ranked[0] - ranked[1])


def divergence(full: Tensor, this: Tensor) -> dict[str, np.ndarray]:
    """KL both ways, JS and TV over the whole vocabulary. full, this: (m, v) log-probabilities, float64."""
    p, q = full.exp(), this.exp()
    middle = torch.logaddexp(full, this) - np.log(2)
    js = 0.5 * ((p * (full - middle)).sum(-1) + (q * (this - middle)).sum(-1))
    columns = {
        "kl_full_to_this": (p * (full - this)).sum(-1),
        "kl_this_to_full": (q * (this - full)).sum(-1),
        "js": js,
        "tv": 0.5 * (p - q).abs().sum(-1),
    }
    return {name: column.clamp_min(0).cpu().numpy() for name, column in columns.items()}


@dataclass(frozen=True)
class FullReadout:
    """What the full model says of m samples; the same for all cells that are compared with it."""

    logp: Tensor  # (m, v) log-probabilities, float64
    top: Tensor  # (m, k) long, its likeliest tokens
    finite: Tensor  # (m,) bool


def read_full(logits: Tensor) -> FullReadout:
    """From the full model's logits (m, v), float32."""
    logp = logits.nan_to_num().double().log_softmax(-1)
    return FullReadout(logp, logp.topk(min(TOP, logp.shape[-1])).indices, torch.isfinite(logits).all(-1))


def read_logits(logits: Tensor, full: FullReadout, options: Sequence[Options]) -> dict[str, Any]:
    """Columns of m samples from their (m, v) logits, float32, and what the full model said.

    `choices` holds the `Choice` of each sample for the scorer; everything else is a column of the store.
    """
    wide = logits.double()
    this = wide.log_softmax(-1)
    top = this.topk(min(TOP, logits.shape[-1]))
    # where full and reduced are the same numbers the full model's own top tokens are looked up, not re-ranked
    at_full = this.gather(-1, full.top)
    entropy = -(this.exp() * this).nan_to_num(0.0).sum(-1)
    rows = this.cpu().numpy()
    choices = [choose(row, option) for row, option in zip(rows, options, strict=True)]
    top_ids = top.indices.cpu().numpy()
    top_logp = top.values.cpu().numpy()
    return {
        "choices": choices,
        "option_labels": [list(option.labels) for option in options],
        "option_token_ids": [choice.token_ids if choice else [] for choice in choices],
        "option_logprobs": [choice.logprobs if choice else [] for choice in choices],
        "answer_mass": [float(np.exp(choice.logprobs).sum()) if choice else None for choice in choices],
        "top1_token_id": top_ids[:, 0],
        "top1_is_option": [
            bool(top1 in {token for forms in option.forms for token in forms}) if option.labels else None
            for top1, option in zip(top_ids[:, 0], options, strict=True)
        ],
        "topk_token_ids": list_column(top_ids.astype(np.int32)),
        "topk_logprobs": list_column(top_logp.astype(np.float32)),
        "ref_topk_logprobs": list_column(at_full.cpu().numpy().astype(np.float32)),
        "logsumexp": wide.logsumexp(-1).cpu().numpy(),
        "entropy": entropy.cpu().numpy(),
        "margin": [
            choice.margin if choice else float(row[0] - row[1]) for choice, row in zip(choices, top_logp, strict=True)
        ],
        **divergence(full.logp, this),
    }


def list_column(values: np.ndarray) -> pa.ListArray:
    """(m, k) numbers as a column of m lists of k."""
    m, k = values.shape
    return pa.ListArray.from_arrays(np.arange(0, (m + 1) * k, k, dtype=np.int32), values.reshape(-1))


def option_forms(tokenizer: Any, label: str) -> tuple[int, ...]:
    """Every single token that opens the answer `label`: bare or space-prefixed, as written or capitalised."""
    found: dict[int, None] = {}
    vocabulary = tokenizer.get_vocab()
    for text in dict.fromkeys((label, label.capitalize())):
        for form in (text, f" {text}"):
            ids = tokenizer.encode(form, add_special_tokens=False)
            if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
                found[ids[0]] = None
        if text in vocabulary:
            found[vocabulary[text]] = None
    if not found:
        raise ValueError(f"the answer {label!r} is no single token of this model, so it cannot be read from logits")
    return tuple(found)
