"""Several questions behind one shared prefix, in one row: positions and the attention mask.

The prefix (system text and visual tokens) is read once; every question restarts right after it and never sees
another question. Training and the evaluation engine share this code, so that what is trained is what is run.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

PREFIX = -1  # the owner of its columns


@dataclass(frozen=True)
class Packed:
    """Layout of packed rows: b rows of s columns, first a prefix of p, then the tokens of q questions without gaps."""

    positions: Tensor  # (b, s) long: prefix positions, then every question restarts right after the prefix
    real: Tensor  # (b, s) bool: no padding
    owner: Tensor  # (b, s) long: the question of each column; PREFIX, or q for what pads a row
    first: Tensor  # (b, q) long: column of the first token of each question, counted from the end of the prefix
    lengths: Tensor  # (b, q) long: tokens of each question
    prefix: int  # p
    width: int  # t, tokens of the longest question
    even: bool  # every question is as long as the longest

    @property
    def questions(self) -> int:
        """q, the questions of one row."""
        return self.lengths.shape[1]

    @property
    def size(self) -> int:
        """s, all columns."""
        return self.real.shape[1]

    @cached_property
    def last(self) -> Tensor:
        """(b, q) long: column of the last token of each question; 0 for one that is absent."""
        return torch.where(self.lengths > 0, self.prefix + self.first + self.lengths - 1, 0)

    def last_among(self, left: int) -> Tensor:
        """(b, q) long: the same in a layer that only `left` columns reach, all behind the prefix among them."""
        return (self.last - (self.size - left)).clamp_min(0)

    @cached_property
    def places(self) -> Tensor:
        """(b, q * t) long: column, behind the prefix, of each token of each question; any where there is none."""
        offsets = torch.arange(self.width, device=self.first.device)
        last = self.size - self.prefix - 1
        return (self.first[..., None] + offsets).clamp_max(last).flatten(1)

    @cached_property
    def slots(self) -> Tensor:
        """(b, s - p) long: which token of which question, out of q * t, stands in each column behind the prefix."""
        owner = self.owner[:, self.prefix :].clamp_max(self.questions - 1)
        column = torch.arange(owner.shape[1], device=owner.device)
        return (owner * self.width + column - self.first.gather(1, owner)).clamp_max(self.questions * self.width - 1)

    def grid(self, rows: Tensor) -> Tensor:
        """What stands behind the prefix, question by question: (b, …, d) to (b, q, t, d), any where there is none."""
        behind = rows[:, rows.shape[1] - (self.size - self.prefix) :]
        found = behind if self.even else behind.gather(1, self.places[..., None].expand(-1, -1, rows.shape[-1]))
        return found.reshape(len(rows), self.questions, self.width, rows.shape[-1])

    def row(self, grid: Tensor) -> Tensor:
        """Numbers of the tokens of the questions, (b, q, t), as they stand behind the prefix: (b, s - p)."""
        return grid.flatten(1) if self.even else grid.flatten(1).gather(1, self.slots)

    @cached_property
    def mask(self) -> Tensor:
        """(b, 1, s, s) bool, true where a column may attend to another."""
        key, query = self.owner[:, None, :], self.owner[:, :, None]
        return self._between(self.size, (key == PREFIX) | (key == query))

    @property
    def prefix_mask(self) -> Tensor:
        """(b, 1, p, p) the same among the columns of the prefix."""
        return self._between(self.prefix, None)

    @property
    def own(self) -> Tensor:
        """(b, q, s) bool: the columns that a token behind each question may attend to."""
        asked = torch.arange(self.questions, device=self.owner.device)[:, None]
        owner = self.owner[:, None]
        return ((owner == PREFIX) | (owner == asked)) & self.real[:, None]

    def _between(self, columns: int, related: Tensor | None) -> Tensor:
        real, order = self.real[:, :columns], torch.arange(columns, device=self.real.device)
        mask = (order[:, None] >= order) & real[:, :, None] & real[:, None, :]
        mask = mask if related is None else mask & related
        return (mask | torch.eye(columns, dtype=torch.bool, device=order.device))[:, None]


def pack(
    prefix_positions: Tensor,
    lengths: Tensor,
    width: int,
    *,
    start: Tensor | None = None,
    prefix_real: Tensor | None = None,
    spare: int = 0,
) -> Packed:
    """Lay q questions of at most `width` tokens behind a prefix of p tokens.

    prefix_positions: (b, p) long, any increasing positions; lengths: (b, q) long, the tokens of each question, which
    stand without gaps, so that a row has as many columns as its questions have tokens; shorter rows are padded on the
    right, all of them by `spare` more. Attention is causal; a question sees the prefix and itself. Padding attends to
    itself alone, so that no row of the softmax is empty, and nothing real attends to it. A question of length 0 is
    absent.
    start: (b,) long, the position a question starts at; None puts it right after the prefix.
    prefix_real: (b, p) bool, false for padding inside the prefix; None where there is none.
    """
    least, most, longest = torch.stack([lengths.min(), lengths.max(), lengths.sum(1).max()]).tolist()
    if least < 0 or most > width:
        raise ValueError(f"question lengths must lie in 0..{width}, the width reserved for each question")
    (rows, prefix), questions = prefix_positions.shape, lengths.shape[1]
    ends = lengths.cumsum(1)
    first = ends - lengths
    column = torch.arange(longest + spare, device=lengths.device).expand(rows, -1).contiguous()
    owner = torch.searchsorted(ends, column, right=True)  # q behind the last end
    if start is None:
        start = prefix_positions.max(dim=1).values + 1
    restarted = column - first.gather(1, owner.clamp_max(questions - 1))
    if prefix_real is None:
        prefix_real = torch.ones_like(prefix_positions, dtype=torch.bool)
    return Packed(
        positions=torch.cat([prefix_positions, start[:, None] + restarted], dim=1),
        real=torch.cat([prefix_real, owner < questions], dim=1),
        owner=torch.cat([torch.full_like(prefix_positions, PREFIX), owner], dim=1),
        first=first,
        lengths=lengths,
        prefix=prefix,
        width=width,
        even=least == width and not spare,
    )
