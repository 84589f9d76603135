"""Pruning inside the model's own forward and `generate`, through hooks: the path that shares nothing.

One hook sees the prompts, one stands before the decoder and cuts the embeddings, positions and mask that the model
itself has built. The modelling code stays the library's.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor, nn

from lofi.errors import UserError
from lofi.methods.context import Selection, VisualContext
from lofi.methods.schedule import Stages
from lofi.models.adapter import Adapter
from lofi.models.columns import Columns, cut_mask, step_mask
from lofi.models.deepstack import left_features
from lofi.models.prompts import Prompts, assigned, positions_of, real_tokens
from lofi.models.staged import Choose, PruneInDecoder
from lofi.models.taps import EncoderTap, Hooks


class PromptTap(Hooks):
    """Sees the prompts of each forward, and cuts none of them."""

    def __init__(self, adapter: Adapter, layers: Collection[int] = ()) -> None:
        super().__init__()
        self._adapter = adapter
        self._ids: Tensor | None = None
        self._read: Prompts | None = None  # in a prefill that goes on
        self._cache: ReferenceType[Any] | None = None  # what the prompts read last have filled
        self._tap = EncoderTap(adapter, layers)
        self._handles += [
            self._tap,
            adapter.model.register_forward_pre_hook(self._see_ids, with_kwargs=True),
            adapter.language.register_forward_hook(self._see_cache),
        ]

    def _see_ids(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = args[0] if args else kwargs.get("input_ids")
        if ids is None:
            raise UserError("the model was called without input_ids, which tell where the images stand; pass them")
        self._ids = ids

    def _see_cache(self, _module: nn.Module, _args: Any, output: Any) -> None:
        cache = getattr(output, "past_key_values", None)
        self._cache = None if cache is None else ref(cache)  # not kept alive: it may be large

    def is_step(self, kwargs: Mapping[str, Any]) -> bool:
        """Whether the decoder is about to read the next token of an answer, not a prompt."""
        cache = kwargs.get("past_key_values")
        if cache is None or not cache.get_seq_length() or kwargs["inputs_embeds"].shape[1] > 1:
            return False
        if self._cache is None or cache is not self._cache():
            raise UserError("this answer's prompt is not the one read last; answer a prompt before reading the next")
        return True

    def after_prefill(self, note: Callable[[Prompts], None]) -> None:
        """Call `note` with the prompts of each prefill, after the decoder has read them."""

        def noted(_module: nn.Module, _args: Any, _output: Any) -> None:
            if self._read is not None:
                note(self._read)
            self._read = None

        self._handles.append(self._adapter.language.register_forward_hook(noted))

    def prompts(self, kwargs: Mapping[str, Any]) -> Prompts | None:
        """The prompts that the decoder is about to read; None where they hold no image."""
        adapter, ids, embeds = self._adapter, self._ids, kwargs["inputs_embeds"]
        cache = kwargs.get("past_key_values")
        if cache is not None and cache.is_compileable:
            raise UserError("a static cache has one size for all layers, pruned or not; leave the default cache")
        if cache is not None and cache.get_seq_length():
            raise UserError("prompts that are read in pieces cannot be pruned; let the model read a prompt at once")
        if ids is None or ids.shape != embeds.shape[:2]:
            raise UserError("the decoder reads other tokens than the model was given; use the model's own forward")
        ids = ids.to(embeds.device)
        visual = adapter.placeholders(ids)
        if not bool(visual.any()):
            return None
        images = self._tap.read(ids.cpu(), visual.cpu())
        rows, columns = assigned(images, visual)
        real, positions = real_tokens(kwargs, ids), positions_of(kwargs, ids)
        self._read = Prompts(ids, embeds, real, positions, images, rows, columns)
        return self._read


ChooseImage = Callable[[Prompts, int], Selection]  # the prompts and which of their images


class PruneBeforeDecoder(PromptTap):
    """While the block lasts, prompts are read with the kept visual tokens of their images only.

    `selections` holds what `choose` gave last for each image, `left` what the decoder then read.
    """

    def __init__(self, adapter: Adapter, choose: ChooseImage, *, positions: str, layers: Collection[int] = ()) -> None:
        super().__init__(adapter, layers)
        self.selections: tuple[Selection, ...] = ()
        self.left: Columns | None = None
        self._choose, self._positions = choose, adapter.policy(positions)
        self._columns = 0  # of the prompts before they were cut
        self._last: Tensor  # (..., b, 1) the positions of their last tokens
        self._handles.append(adapter.language.register_forward_pre_hook(self._cut, with_kwargs=True))

    def _cut(self, _module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        kwargs = dict(kwargs)
        if self.is_step(kwargs):
            self._step(kwargs)
            return args, kwargs
        self.left, prompts = None, self.prompts(kwargs)
        if prompts is not None:
            self.selections = tuple(self._choose(prompts, image) for image in range(len(prompts.images)))
            self._cut_prompts(prompts, kwargs)
        return args, kwargs

    def _cut_prompts(self, prompts: Prompts, kwargs: dict[str, Any]) -> None:
        before = prompts.whole()
        chosen = [self._rows(prompts, before, row) for row in range(len(prompts.ids))]
        left, index = before.keep([rows for rows, _ in chosen], self._positions)
        if index.shape == prompts.ids.shape and bool((index == before.origin).all()):
            return  # everything is kept: the model goes on with what it has made itself
        self.left, self._columns = left, prompts.ids.shape[1]
        self._adapter.check_window(self._columns)
        embeds = prompts.embeds.gather(1, index[..., None].expand(-1, -1, prompts.embeds.shape[-1]))
        for row, (_, merged) in enumerate(chosen):
            if merged is not None:
                embeds[row, left.visual[row]] = merged.to(embeds.dtype)
        kwargs["inputs_embeds"] = embeds
        kwargs["position_ids"] = self._cut_positions(kwargs.get("position_ids"), left, index)
        self._last = kwargs["position_ids"][..., -1:]
        mask = kwargs.get("attention_mask")
        if isinstance(mask, dict):
            kwargs["attention_mask"] = {
                kind: each if each is None else cut_mask(each, left) for kind, each in mask.items()
            }
        else:
            # always a mask: without one, gaps in the positions read as borders between packed prompts
            kwargs["attention_mask"] = cut_mask(mask, left) if mask is not None and mask.ndim == 4 else left.real.long()
        if kwargs.get("deepstack_visual_embeds") is not None:
            seen = kwargs["visual_pos_masks"]
            cut = [left_features(features, seen, left) for features in kwargs["deepstack_visual_embeds"]]
            kwargs["deepstack_visual_embeds"] = [features for features, _ in cut]
            kwargs["visual_pos_masks"] = cut[0][1]

    def _rows(self, prompts: Prompts, before: Columns, row: int) -> tuple[Tensor, Tensor | None]:
        """Which visual tokens of a prompt go on, counted in the order of their columns, and merged rows if any."""
        images = prompts.of_row(row)
        if not images:
            return prompts.ids.new_empty(0), None
        rank = prompts.visual(row).argsort().argsort()  # token, image after image -> its rank among the columns
        rows, embeds, merges, start = [], [], False, 0
        for image in images:
            selection = self.selections[image]
            own = rank[start : start + len(prompts.columns[image])]
            start += len(own)
            if selection.embeds is None:
                rows.append(own[selection.rows].sort().values)
                embeds.append(prompts.embeds[row, before.visual[row][rows[-1]]])
            else:
                rows.append(own[selection.rows])
                embeds.append(selection.embeds.to(prompts.embeds.dtype))
                merges = True
        return torch.cat(rows), torch.cat(embeds) if merges else None

    def _cut_positions(self, positions: Tensor | None, left: Columns, index: Tensor) -> Tensor:
        if self._positions == "reindexed" or positions is None:
            return left.positions
        if positions.ndim == 2:
            return positions.expand(len(index), -1).gather(1, index)
        return positions.expand(-1, len(index), -1).gather(2, index.expand(len(positions), -1, -1))

    def _step(self, kwargs: dict[str, Any]) -> None:
        """The next token of an answer: it sees what is left of its prompt, and stands behind it."""
        left, mask = self.left, kwargs.get("attention_mask")
        if left is None:
            return  # nothing was cut
        new = kwargs["past_key_values"].get_seq_length() + 1 - left.real.shape[1]
        self._adapter.check_window(self._columns + new)
        kwargs["position_ids"] = self._last + new  # the model would count from the shorter cache
        seen = step_mask(left, new)
        if isinstance(mask, dict):
            native = None if bool(left.real.all()) else self._adapter.native_mask(seen[:, None, None])
            kwargs["attention_mask"] = dict.fromkeys(mask, native)
        else:
            kwargs["attention_mask"] = seen.long()


class PrunePromptsInDecoder(PromptTap):
    """`PruneInDecoder` in the model's own forward and `generate`; `plan` gives the stages for n visual tokens."""

    def __init__(
        self,
        adapter: Adapter,
        plan: Callable[[int], Stages],
        choose: Choose,
        *,
        positions: str,
        key: Callable[[Prompts, int], int],
    ) -> None:
        super().__init__(adapter)
        self._plan, self._key = plan, key
        self.pruner = PruneInDecoder(adapter, choose, positions=positions)
        self._handles += [adapter.language.register_forward_pre_hook(self._begin, with_kwargs=True), self.pruner]

    def _begin(self, _module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if self.is_step(kwargs):
            return args, kwargs
        prompts = self.prompts(kwargs)
        if prompts is None:
            raise UserError("the prompts hold no image, so there is nothing to prune; leave the block for them")
        b = len(prompts.ids)
        plans = [self._plan(len(prompts.visual(row))) if prompts.of_row(row) else () for row in range(b)]
        if any(plans) and kwargs.get("position_ids") is None:
            # as `generate` counts them: counted through the padding, they would turn keys that a method looks at
            prompts = replace(prompts, positions=(prompts.real.cumsum(1) - 1).clamp_min(0))
            kwargs = {**kwargs, "position_ids": prompts.positions}
        self.pruner.begin(
            prompts.whole(),
            plans,
            grids=[_grid(prompts, row) for row in range(b)],
            image_keys=[self._key(prompts, row) if prompts.of_row(row) else 0 for row in range(b)],
        )
        return args, kwargs


def _grid(prompts: Prompts, row: int) -> tuple[int, int]:
    """The grid of a prompt's visual tokens: a single line where they are of several images or tiles."""
    images = prompts.of_row(row)
    grids = [grid for image in images for grid in prompts.images.geometries[image].grids]
    return grids[0] if len(grids) == 1 else (1, sum(len(prompts.columns[image]) for image in images))


def context_of(prompts: Prompts, image: int, image_key: int, **more: Any) -> VisualContext:
    """What a reducer sees of one image of the prompts."""
    return prompts.images.context(image, prompts.projected(image), image_key, **more)
