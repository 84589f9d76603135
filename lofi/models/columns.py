"""Which columns of a batch of prompts hold what, before and after visual tokens are dropped.

Before the LLM and inside it, in the engine and under hooks, a prompt is cut by the same rule: everything that is no
visual token stays where it is, and the rows that the LLM reads stand where the kept tokens stood, in their order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True)
class Columns:
    """b prompts of s columns; the visual tokens of each in the order in which the LLM reads them."""

    visual: tuple[Tensor, ...]  # of each row (v,) long: the columns of its visual tokens, ascending
    places: tuple[Tensor, ...]  # of each row (v,) long: which of its tokens before any pruning stand there
    real: Tensor  # (b, s) bool, no padding
    positions: Tensor  # (b, s) long
    origin: Tensor  # (b, s) long, the column of the unpruned prompt whose position a token has
    ranks: Tensor  # (b, s) long, the column of the unpruned prompt whose row of the mask a token has

    @classmethod
    def of(cls, visual: Sequence[Tensor], real: Tensor, positions: Tensor) -> "Columns":
        """The columns of prompts before any pruning; `visual` may come in any order."""
        own = torch.arange(real.shape[1], device=real.device).expand_as(real)
        ordered = [columns.sort() for columns in visual]
        return cls(tuple(o.values for o in ordered), tuple(o.indices for o in ordered), real, positions, own, own)

    def behind(self, columns: int) -> "Columns":
        """Without the first columns, none of which is visual."""
        return replace(
            self,
            visual=tuple(row - columns for row in self.visual),
            real=self.real[:, columns:],
            positions=self.positions[:, columns:],
            origin=self.origin[:, columns:],
            ranks=self.ranks[:, columns:],
        )

    def keep(self, rows: Sequence[Tensor], positions: str) -> tuple["Columns", Tensor]:
        """What is left where of each row only these visual tokens (r,) go on, and its old columns (b, s').

        `rows` counts within the visual tokens of the row. Rows that have become shorter than others are padded on
        the left. Where positions are `reindexed`, what is left is numbered without gaps; where they are `kept`, a
        token keeps its own.
        """
        cuts = [self._cut(row, kept) for row, kept in enumerate(rows)]
        index, ranked, filled = (_left_padded([cut[part] for cut in cuts]) for part in range(3))
        real = self.real.gather(1, index) & filled.bool()
        shift = [index.shape[1] - len(cut[0]) for cut in cuts]
        placed = (real.cumsum(1) - 1).clamp_min(0) if positions == "reindexed" else self.positions.gather(1, index)
        columns = Columns(
            visual=tuple(cut[3] + start for cut, start in zip(cuts, shift, strict=True)),
            places=tuple(places[kept] for places, kept in zip(self.places, rows, strict=True)),
            real=real,
            positions=placed,
            origin=self.origin.gather(1, index),
            ranks=self.ranks.gather(1, ranked),
        )
        return columns, index

    def _cut(self, row: int, kept: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """For one row: old columns (s',), those whose row of the mask is taken, ones, and the new visual columns (r,).

        In their order the rows of the visual tokens are causal, whatever they hold: a merged token may come first
        that stands for a later place. So the r first of the visual columns lend their rows of the mask.
        """
        visual, device = self.visual[row], self.real.device
        stays = torch.ones(self.real.shape[1], dtype=torch.bool, device=device)
        stays[visual] = False
        others = stays.nonzero()[:, 0]
        slots = visual[kept].sort().values
        lent = visual[: len(kept)] if len(kept) <= len(visual) else slots
        columns, order = torch.cat([others, slots]).sort(stable=True)
        at = (order >= len(others)).nonzero()[:, 0]
        index, ranked = columns.clone(), columns.clone()
        index[at] = visual[kept]
        ranked[at] = lent if _one_block(visual) else slots
        return index, ranked, torch.ones_like(index), at


def _one_block(visual: Tensor) -> bool:
    """Whether no other token stands between the visual ones."""
    return len(visual) < 2 or int(visual[-1] - visual[0]) == len(visual) - 1


def _left_padded(rows: Sequence[Tensor]) -> Tensor:
    """(b, s') the rows, the shorter ones with zeros before them."""
    return pad_sequence([row.flip(0) for row in rows], batch_first=True).flip(1)


def cut_axis(tensor: Tensor, index: Tensor, dim: int) -> Tensor:
    """The entries `index` (b, s') of one axis of a tensor whose first axis is b, or 1 for all rows alike."""
    shape = [len(index), *tensor.shape[1:]]
    shape[dim] = index.shape[1]
    view = [len(index)] + [1] * (tensor.ndim - 1)
    view[dim] = index.shape[1]
    return tensor.expand(len(index), *tensor.shape[1:]).gather(dim, index.view(view).expand(shape))


def cut_mask(mask: Tensor, left: Columns) -> Tensor:
    """A mask (b, 1, s, s) between what is left: (b, 1, s', s'), where padding sees itself alone."""
    cut = cut_axis(cut_axis(mask, left.ranks, 3), left.ranks, 2)
    if bool(left.real.all()):
        return cut
    seen = left.real[:, None, None, :] & left.real[:, None, :, None]
    seen = seen | torch.eye(seen.shape[-1], dtype=torch.bool, device=seen.device)
    padded = ~left.real[:, None, :, None] & seen
    if cut.dtype == torch.bool:
        return (cut & seen) | padded
    return cut.masked_fill(~seen, torch.finfo(cut.dtype).min).masked_fill(padded, 0.0)


def step_mask(read: Columns, new: int) -> Tensor:
    """(b, s' + new) bool: what the last of `new` tokens behind prompts may attend to, of which `read` is left."""
    return pad(read.real, (0, new), value=True)
