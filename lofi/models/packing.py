"""Several questions behind one shared prefix, in one row: positions and the attention mask.

The prefix (system text and visual tokens) is read once; every question restarts right after it and never sees
another question. Training and the evaluation engine share this code, so that what is trained is what is run.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """Layout of packed rows: b rows of s = p + q * width columns."""

    positions: Tensor  # (b, s) long: prefix positions, then every question restarts right after the prefix
    real: Tensor  # (b, s) bool: no padding
    last: Tensor  # (b, q) long: column of the last real token of each question
    prefix: int  # p
    width: int  # columns of each question

    @property
    def questions(self) -> int:
        """q, the questions of one row."""
        return self.last.shape[1]

    @property
    def size(self) -> int:
        """s, all columns."""
        return self.real.shape[1]

    @cached_property
    def mask(self) -> Tensor:
        """(b, 1, s, s) bool, true where a column may attend to another."""
        column = torch.arange(self.size, device=self.real.device)
        owner = torch.where(column < self.prefix, -1, (column - self.prefix) // max(self.width, 1))  # -1: the prefix
        related = (owner == -1) | (owner[:, None] == owner)
        return self._between(column, related)

    @property
    def prefix_mask(self) -> Tensor:
        """(b, 1, p, p) the same among the columns of the prefix."""
        column = torch.arange(self.prefix, device=self.real.device)
        return self._between(column, torch.ones_like(column, dtype=torch.bool))

    @property
    def own(self) -> Tensor:
        """(b, q, s) bool: the columns that a token behind each question may attend to."""
        column = torch.arange(self.size - self.prefix, device=self.real.device) // max(self.width, 1)
        asked = column == torch.arange(self.questions, device=column.device)[:, None]
        before = asked.new_ones(self.questions, self.prefix)
        return torch.cat([before, asked], 1) & self.real[:, None]

    def _between(self, column: Tensor, related: Tensor) -> Tensor:
        real = self.real[:, : len(column)]
        mask = ((column[:, None] >= column) & related) & real[:, :, None] & real[:, None, :]
        return (mask | torch.eye(len(column), dtype=torch.bool, device=column.device))[:, None]


def pack(
    prefix_positions: Tensor,
    lengths: Tensor,
    width: int,
    *,
    start: Tensor | None = None,
    prefix_real: Tensor | None = None,
) -> Packed:
    """Lay q questions of at most `width` tokens behind a prefix of p tokens.

    prefix_positions: (b, p) long, any increasing positions; lengths: (b, q) long, real tokens of each question.
    Question j owns columns p + j * width to p + (j + 1) * width - 1, padded on the right. Attention is causal; a
    question sees the prefix and itself. Padding attends to itself alone, so that no row of the softmax is empty,
    and nothing real attends to it. A question of length 0 is absent: its `last` is 0 and means nothing.
    start: (b,) long, the position a question starts at; None puts it right after the prefix.
    prefix_real: (b, p) bool, false for padding inside the prefix; None where there is none.
    """
    if lengths.numel() and (int(lengths.max()) > width or int(lengths.min()) < 0):
        raise ValueError(f"question lengths must lie in 0..{width}, the width reserved for each question")
    rows, prefix = prefix_positions.shape
    questions = lengths.shape[1]
    device = prefix_positions.device
    offsets = torch.arange(width, device=device)

    if start is None:
        start = prefix_positions.max(dim=1).values + 1
    restart = (start[:, None] + offsets).repeat(1, questions)  # (b, q * width)
    positions = torch.cat([prefix_positions, restart], dim=1)

    asked = (offsets < lengths[:, :, None]).reshape(rows, questions * width)
    if prefix_real is None:
        prefix_real = torch.ones(rows, prefix, dtype=torch.bool, device=device)
    first = prefix + torch.arange(questions, device=device) * width
    return Packed(
        positions=positions,
        real=torch.cat([prefix_real, asked], dim=1),
        last=torch.where(lengths > 0, first + lengths - 1, 0),
        prefix=prefix,
        width=width,
    )
