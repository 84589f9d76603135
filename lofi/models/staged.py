"""Pruning between decoder layers, through hooks: the model's own forward and cache, with fewer tokens after a stage.

The decoder's loop goes on passing the mask and the rotary embedding of the whole prompt to every layer, so each
layer from the first stage on gets its hidden states as they are by then, and its mask and positions cut to match.
A layer's cache holds what that layer has read; a decoding step cuts its mask to the same columns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lofi.methods.context import Selection
from lofi.methods.decoder import DecoderView
from lofi.methods.schedule import Stages
from lofi.models.adapter import Adapter
from lofi.models.probe import Probes, Rotary
from lofi.models.taps import Hooks

Choose = Callable[[int, DecoderView, int], Selection]  # row, view, count


@dataclass(frozen=True)
class Columns:
    """What stands in the columns of b prompts that are padded to s: `visual` columns in one block, all rows alike."""

    visual: Tensor  # (b, v) long, the columns of the visual tokens
    places: Tensor  # (b, v) long, their raster places
    real: Tensor  # (b, s) bool, no padding
    positions: Tensor  # (b, s) long
    origin: Tensor  # (b, s) long, the column of the unpruned prompt whose position a token has
    ranks: Tensor  # (b, s) long, the column of the unpruned prompt whose row of the mask a token has

    @classmethod
    def of(cls, visual: Tensor, real: Tensor, positions: Tensor) -> "Columns":
        """The columns of prompts before any pruning."""
        own = torch.arange(real.shape[1], device=real.device).expand_as(real)
        places = torch.arange(visual.shape[1], device=real.device).expand_as(visual)
        return cls(visual, places, real, positions, own, own)

    def keep(self, rows: Tensor, positions: str) -> tuple["Columns", Tensor]:
        """The columns that are left where only `rows` (b, r) of the visual tokens go on, and their indices (b, s')."""
        block = self.visual[:, :1]
        n, r = self.visual.shape[1], rows.shape[1]
        ahead = int(block[0, 0])
        left, right = self._outside(0, ahead), self._outside(ahead + n, self.real.shape[1])
        index = torch.cat([left, self.visual.gather(1, rows), right], 1)
        # In their order the rows of the block are causal, whatever tokens they hold: a merged token comes last.
        ranked = torch.cat([left, self.visual[:, :r], right], 1)
        real = self.real.gather(1, index)
        placed = (real.cumsum(1) - 1).clamp_min(0) if positions == "reindexed" else self.positions.gather(1, index)
        columns = Columns(
            visual=ahead + torch.arange(r, device=rows.device).expand_as(rows),
            places=self.places.gather(1, rows),
            real=real,
            positions=placed,
            origin=self.origin.gather(1, index),
            ranks=self.ranks.gather(1, ranked),
        )
        return columns, index

    def _outside(self, start: int, stop: int) -> Tensor:
        """(b, stop - start) columns."""
        return torch.arange(start, stop, device=self.real.device).expand(len(self.real), -1)


class PruneInDecoder(Hooks):
    """While the block lasts, prompts lose visual tokens before the layers of `plan`.

    `begin` says where the visual tokens of the coming prefill stand. `choose` selects for one row at one stage.
    """

    def __init__(
        self,
        adapter: Adapter,
        plan: Stages,
        choose: Choose,
        *,
        positions: str,
        grid: tuple[int, int],
        image_keys: Sequence[int],
    ) -> None:
        super().__init__()
        self._adapter, self._choose, self._positions = adapter, choose, positions
        self._plan = {stage.layer: stage.count for stage in plan}
        self._grid, self._keys = grid, image_keys
        self._first = min(self._plan, default=len(adapter.layers))
        self._start: Columns
        self._now: Columns | None = None
        self._entry = self._previous = torch.empty(0)
        self.read: dict[int, Columns] = {}  # layer -> what it read in the prefill
        self._handles += [
            layer.register_forward_pre_hook(self._hook(index), with_kwargs=True)
            for index, layer in enumerate(adapter.layers)
        ]

    def begin(self, columns: Columns) -> None:
        """Announce a prefill."""
        self._start, self._now = columns, columns
        self.read = {}

    @property
    def left(self) -> Columns:
        """What the last layer read."""
        return self.read[len(self._adapter.layers) - 1]

    def _hook(self, layer: int) -> Callable[..., tuple[Any, dict[str, Any]]]:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            hidden, *others = args or (kwargs["hidden_states"],)
            kwargs = {key: value for key, value in kwargs.items() if key != "hidden_states"}
            if hidden.shape[1] > 1:
                hidden = self._prefill(layer, hidden, kwargs)
            elif layer >= self._first:
                self._step(layer, hidden, kwargs)
            return (hidden, *others), kwargs

        return hook

    def _prefill(self, layer: int, hidden: Tensor, kwargs: dict[str, Any]) -> Tensor:
        now = self._now
        if now is None:
            raise RuntimeError("no prefill was announced")
        if layer == 0:
            self._entry = hidden
        if layer in self._plan and now.visual.shape[1]:
            now, hidden = self._prune(layer, now, hidden, kwargs["position_embeddings"])
        if layer >= self._first:
            kwargs["position_embeddings"] = self._rotary(now, hidden, kwargs["position_embeddings"])
            if kwargs.get("position_ids") is not None:
                kwargs["position_ids"] = now.positions
            if (mask := kwargs.get("attention_mask")) is not None:
                kwargs["attention_mask"] = _cut(_cut(mask, now.ranks, 3), now.ranks, 2)
        self._now = self.read[layer] = now
        self._previous = hidden
        return hidden

    def _step(self, layer: int, hidden: Tensor, kwargs: dict[str, Any]) -> None:
        """A decoding step: the mask to the columns that this layer has cached, positions after its own tokens."""
        read, s = self.read[layer], self._start.real.shape[1]
        if (mask := kwargs.get("attention_mask")) is not None:
            new = torch.arange(s, mask.shape[-1], device=mask.device).expand(len(read.ranks), -1)
            kwargs["attention_mask"] = _cut(mask, torch.cat([read.ranks, new], 1), 3)
        if self._positions == "reindexed":
            positions = kwargs["position_ids"] - (s - read.real.shape[1])
            kwargs["position_ids"] = positions
            kwargs["position_embeddings"] = self._turn(hidden, positions)

    def _prune(self, layer: int, now: Columns, hidden: Tensor, rotary: Rotary) -> tuple[Columns, Tensor]:
        views = self._views(layer, now, hidden, self._rotary(now, hidden, rotary))
        found = [self._choose(row, view, self._plan[layer]) for row, view in enumerate(views)]
        left, index = now.keep(torch.stack([selection.rows for selection in found]), self._positions)
        hidden = hidden.gather(1, index[..., None].expand(-1, -1, hidden.shape[-1]))
        for row, selection in enumerate(found):
            if selection.embeds is not None:
                hidden[row, left.visual[row]] = selection.embeds.to(hidden.dtype)
        return left, hidden

    def _views(self, layer: int, now: Columns, hidden: Tensor, rotary: Rotary) -> list[DecoderView]:
        """One view per row, of its real columns alone."""
        adapter = self._adapter
        probes = Probes(adapter, {layer: hidden, layer - 1: self._previous}, rotary)
        normed = adapter.language.get_submodule(adapter.family.final_norm)(hidden)
        views = []
        for row, real in enumerate(now.real):
            columns = real.nonzero()[:, 0]
            visual = now.visual[row] - columns[0]
            whole, block = self._start.real[row].nonzero()[:, 0], self._start.visual[row]
            views.append(
                DecoderView(
                    layer=layer,
                    depth=len(adapter.layers),
                    hidden=hidden[row, columns],
                    previous=self._previous[row, columns],
                    normed=normed[row, columns],
                    visual=visual,
                    text=torch.arange(int(visual[-1]) + 1, len(columns), device=hidden.device),
                    places=now.places[row],
                    n=len(block),
                    grid=self._grid,
                    entry_visual=self._entry[row, block],
                    entry_text=self._entry[row, whole[whole > block[-1]]],
                    attention=probes.of(row, columns),
                    rotary=(rotary[0][row, columns], rotary[1][row, columns]),
                    image_key=self._keys[row],
                )
            )
        return views

    def _rotary(self, now: Columns, hidden: Tensor, whole: Rotary) -> Rotary:
        """Cos and sin (b, s', w) of the tokens that are left, from those of the whole prompt."""
        if now is self._start:
            cos, sin = whole
            return cos.expand(len(hidden), -1, -1), sin.expand(len(hidden), -1, -1)
        if self._positions == "reindexed":
            return self._turn(hidden, now.positions)
        cos, sin = (_cut(part.expand(len(hidden), -1, -1), now.origin, 1) for part in whole)
        return cos, sin

    def _turn(self, hidden: Tensor, positions: Tensor) -> Rotary:
        embedding = self._adapter.language.get_submodule(self._adapter.family.rotary)
        cos, sin = embedding(hidden, position_ids=positions)
        return cos, sin


def _cut(tensor: Tensor, index: Tensor, dim: int) -> Tensor:
    """The entries `index` (b, s') of one axis of a tensor whose first axis is b, or 1 for all rows alike."""
    shape = [len(index), *tensor.shape[1:]]
    shape[dim] = index.shape[1]
    view = [len(index)] + [1] * (tensor.ndim - 1)
    view[dim] = index.shape[1]
    return tensor.expand(len(index), *tensor.shape[1:]).gather(dim, index.view(view).expand(shape))
