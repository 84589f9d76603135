"""Pruning between decoder layers, through hooks: the model's own forward and cache, with fewer tokens after a stage.

The decoder's loop goes on passing the mask and the rotary embedding of the whole prompt to every layer, so each
layer from the first stage on gets its hidden states as they are by then, and its mask and positions cut to match.
A layer's cache holds what that layer has read; a decoding step cuts its mask to the same columns.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lofi.methods.context import Selection
from lofi.methods.decoder import DecoderView
from lofi.methods.schedule import Stages
from lofi.models.adapter import Adapter
from lofi.models.columns import Columns, cut_axis, cut_mask, step_mask
from lofi.models.deepstack import Deepstack
from lofi.models.probe import Probes, Rotary
from lofi.models.taps import Hooks

Choose = Callable[[int, DecoderView, int], Selection]  # row, view, count


class PruneInDecoder(Hooks):
    """While the block lasts, prompts lose visual tokens before the layers of their plans.

    `begin` says where the visual tokens of the coming prefill stand. `choose` selects for one row at one stage.
    """

    def __init__(self, adapter: Adapter, choose: Choose, *, positions: str) -> None:
        super().__init__()
        self._adapter, self._choose = adapter, choose
        self._positions = adapter.policy(positions)
        self._plans: list[dict[int, int]] = []  # of each row: layer -> count
        self._grids: Sequence[tuple[int, int]] = ()
        self._keys: Sequence[int] = ()
        self._first = len(adapter.layers)
        self._start: Columns
        self._now: Columns | None = None
        self._entry = self._previous = torch.empty(0)
        self._rotaries: dict[int, Rotary] = {}  # layer -> cos and sin of the whole prompt
        self.read: dict[int, Columns] = {}  # layer -> what it read in the prefill
        self._handles += [
            layer.register_forward_pre_hook(self._hook(index), with_kwargs=True)
            for index, layer in enumerate(adapter.layers)
        ]
        if adapter.family.deepstack:
            self._handles.append(Deepstack(adapter, lambda: self._now))

    def begin(
        self,
        columns: Columns,
        plans: Sequence[Stages],
        *,
        grids: Sequence[tuple[int, int]],
        image_keys: Sequence[int],
    ) -> None:
        """Announce a prefill: its columns, and for each row its stages, its grid and the key of its image."""
        self._start, self._now = columns, columns
        self._plans = [{stage.layer: stage.count for stage in plan} for plan in plans]
        self._first = min((layer for plan in self._plans for layer in plan), default=len(self._adapter.layers))
        self._grids, self._keys = grids, image_keys
        self.read, self._rotaries = {}, {}
        if any(self._plans):
            self._adapter.check_window(columns.real.shape[1])

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
        cos, sin = kwargs["position_embeddings"]
        self._rotaries[layer] = cos.to(now.real.device), sin.to(now.real.device)
        if any(layer in plan for plan in self._plans):
            now, hidden = self._prune(layer, now, hidden)
        if layer >= self._first:
            kwargs["position_embeddings"] = self._rotary(layer, now, hidden)
            if kwargs.get("position_ids") is not None:
                kwargs["position_ids"] = now.positions
            mask = kwargs.get("attention_mask")
            if mask is not None:
                kwargs["attention_mask"] = cut_mask(mask, now)
            elif not bool(now.real.all()):
                kwargs["attention_mask"] = self._adapter.causal_mask(now.real)
        self._now = self.read[layer] = now
        self._previous = hidden
        return hidden

    def _step(self, layer: int, hidden: Tensor, kwargs: dict[str, Any]) -> None:
        """A decoding step: the mask to the columns that this layer has cached, positions after its own tokens."""
        read = self.read[layer]
        new = kwargs["past_key_values"].get_seq_length(layer) + 1 - read.real.shape[1]
        self._adapter.check_window(self._start.real.shape[1] + new)
        # made anew: `generate` drops a mask that hides nothing, but rows may have become shorter than others
        if kwargs.get("attention_mask") is not None or not bool(read.real.all()):
            kwargs["attention_mask"] = self._adapter.native_mask(step_mask(read, new)[:, None, None])
        if self._positions == "reindexed":
            dropped = self._start.real.sum(1, keepdim=True) - read.real.sum(1, keepdim=True)
            positions = kwargs["position_ids"] - dropped
            kwargs["position_ids"] = positions
            kwargs["position_embeddings"] = self._adapter.rotary(layer, hidden, positions)

    def _prune(self, layer: int, now: Columns, hidden: Tensor) -> tuple[Columns, Tensor]:
        # layers may compute on several devices: what a selector sees lies on one
        hidden, self._previous = hidden.to(now.real.device), self._previous.to(now.real.device)
        views = self._views(layer, now, hidden)
        found = [
            Selection(torch.arange(len(now.visual[row]), device=hidden.device))
            if view is None
            else self._choose(row, view, self._plans[row][layer])
            for row, view in enumerate(views)
        ]
        left, index = now.keep([selection.rows for selection in found], self._positions)
        hidden = hidden.gather(1, index[..., None].expand(-1, -1, hidden.shape[-1]))
        for row, selection in enumerate(found):
            if selection.embeds is not None:
                hidden[row, left.visual[row]] = selection.embeds.to(hidden.dtype)
        return left, hidden

    def _views(self, layer: int, now: Columns, hidden: Tensor) -> list[DecoderView | None]:
        """One view per row, of its real columns alone; None for a row that does not prune here."""
        adapter = self._adapter
        rotaries = {layer: self._rotary(layer, now, hidden)}
        if layer:
            rotaries[layer - 1] = self._rotary(layer - 1, now, hidden)
        probes = Probes(adapter, {layer: hidden, layer - 1: self._previous}, rotaries)
        normed = adapter.language.get_submodule(adapter.family.final_norm)(hidden).to(hidden.device)
        return [
            self._view(layer, row, now, hidden, normed, probes, rotaries[layer])
            if layer in self._plans[row] and len(now.visual[row])
            else None
            for row in range(len(hidden))
        ]

    def _view(
        self, layer: int, row: int, now: Columns, hidden: Tensor, normed: Tensor, probes: Probes, rotary: Rotary
    ) -> DecoderView:
        columns = now.real[row].nonzero()[:, 0]
        visual = torch.searchsorted(columns, now.visual[row])
        whole, block = self._start.real[row].nonzero()[:, 0], self._start.visual[row]
        return DecoderView(
            layer=layer,
            depth=len(self._adapter.layers),
            hidden=hidden[row, columns],
            previous=self._previous[row, columns],
            normed=normed[row, columns],
            visual=visual,
            # what stood behind all of the images: a line end behind a dropped token is no text
            text=(now.origin[row, columns] > block[-1]).nonzero()[:, 0],
            places=now.places[row],
            n=len(block),
            grid=self._grids[row],
            entry_visual=self._entry[row, block],
            entry_text=self._entry[row, whole[whole > block[-1]]],
            attention=probes.of(row, columns),
            rotary=(rotary[0][row, columns], rotary[1][row, columns]),
            image_key=self._keys[row],
        )

    def _rotary(self, layer: int, now: Columns, hidden: Tensor) -> Rotary:
        """Cos and sin (b, s', w) at a layer of the tokens that are left, from those of the whole prompt."""
        cos, sin = (part.expand(len(hidden), -1, -1) for part in self._rotaries[layer])
        if now is self._start:
            return cos, sin
        if self._positions == "reindexed":
            return self._adapter.rotary(layer, hidden, now.positions)
        return cut_axis(cos, now.origin, 1), cut_axis(sin, now.origin, 1)


class PruneBatch(PruneInDecoder):
    """`PruneInDecoder` for prompts that all have the same stages and grid."""

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
        super().__init__(adapter, choose, positions=positions)
        self._plan, self._grid, self._own_keys = plan, grid, image_keys

    def announce(self, columns: Columns) -> None:
        """`begin`, with what is known already."""
        b = len(self._own_keys)
        self.begin(columns, [self._plan] * b, grids=[self._grid] * b, image_keys=self._own_keys)
