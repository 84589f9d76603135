"""Greedy answers for all questions of a packed pass at once, each behind its own question."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from lofi.engine.prefill import Prefilled
from lofi.models.adapter import Adapter


@dataclass(frozen=True)
class Generated:
    """The greedy answer to one question."""

    ids: list[int]  # without the token that ended it
    logprobs: list[float]  # of every token drawn, the ending one included
    finish: str  # stop, length


def generate(adapter: Adapter, prefilled: Prefilled, budgets: Tensor) -> list[list[Generated | None]]:
    """Continue b x q questions greedily; budgets (b, q) long: most new tokens, 0 where nothing is generated."""
    if not bool((budgets > 0).any()):
        return [[None] * budgets.shape[1] for _ in budgets]
    drawn, scores = _draw(adapter, prefilled, budgets)
    return [
        [_finish(drawn[i, j], scores[i, j], int(budgets[i, j]), adapter.stop_ids) for j in range(budgets.shape[1])]
        for i in range(len(budgets))
    ]


def _draw(adapter: Adapter, prefilled: Prefilled, budgets: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens (b, q, steps) and their log-probabilities, until every question has stopped or run out."""
    stops = torch.tensor(adapter.stop_ids, device=budgets.device)
    b, q = budgets.shape
    mask = _own_columns(prefilled)  # (b, q, s)
    own = torch.eye(q, dtype=torch.bool, device=mask.device).expand(b, -1, -1)
    logits = adapter.logits(prefilled.hidden)
    tokens: list[Tensor] = []
    scores: list[Tensor] = []
    running = budgets > 0
    while True:
        score, token = logits.log_softmax(-1).max(-1)
        tokens.append(token)
        scores.append(score)
        running = running & ~torch.isin(token, stops) & (budgets > len(tokens))
        if not bool(running.any()):
            return torch.stack(tokens, -1), torch.stack(scores, -1)
        mask = torch.cat([mask, own], -1)
        positions = prefilled.ends + len(tokens)
        states = adapter.decode(adapter.embed(token), positions, mask[:, None], prefilled.cache)
        logits = adapter.logits(states)


def _own_columns(prefilled: Prefilled) -> Tensor:
    """(b, q, s) what the next token of each question may attend to: all that its last token could."""
    return pad(prefilled.packed.own, (prefilled.system, 0), value=True)


def _finish(tokens: Tensor, scores: Tensor, budget: int, stops: tuple[int, ...]) -> Generated | None:
    if budget == 0:
        return None
    ids = tokens[:budget].tolist()
    ends = [index for index, token in enumerate(ids) if token in stops]
    n = ends[0] if ends else len(ids)
    return Generated(ids[:n], scores[: n + bool(ends)].tolist(), "stop" if ends else "length")
