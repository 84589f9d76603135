"""Pruning inside the model's own forward and `generate`, through hooks: the path that shares nothing.

Two hooks do it. One sees what leaves the projector and chooses; one stands before the decoder and cuts the
embeddings, positions and mask that the model itself has built. The modelling code stays the library's.
"""

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn

from lofi.methods.context import Selection
from lofi.methods.schedule import Stages
from lofi.models.adapter import Adapter, Encoded
from lofi.models.staged import Choose, Columns, PruneInDecoder
from lofi.models.taps import EncoderTap, Hooks


class PruneBeforeDecoder(Hooks):
    """While the block lasts, one unpadded prompt about one image is read with its kept visual tokens only.

    `choose` maps the encoded image to its selection; `selection` holds what it chose last.
    """

    def __init__(
        self, adapter: Adapter, choose: Callable[[Encoded], Selection], *, positions: str, layers: Collection[int] = ()
    ) -> None:
        super().__init__()
        self.selection: Selection | None = None
        self._adapter, self._choose, self._positions = adapter, choose, positions
        self._ids = torch.empty(0)
        self._keep = torch.empty(0)  # prompt columns that survive
        self._n = 0  # columns before the cut
        self._tap = EncoderTap(adapter, layers)
        self._handles += [
            self._tap,
            adapter.model.register_forward_pre_hook(self._see_ids, with_kwargs=True),
            adapter.projector.register_forward_hook(self._select),
            adapter.language.register_forward_pre_hook(self._cut, with_kwargs=True),
        ]

    def _see_ids(self, _module: nn.Module, _args: Any, kwargs: dict[str, Any]) -> None:
        if kwargs["input_ids"].shape[1] > 1:  # a prefill; `generate` has encoded the image before it
            self._ids = kwargs["input_ids"][0]

    def _select(self, _module: nn.Module, _args: Any, projected: Tensor) -> None:
        self.selection = self._choose(self._adapter.encoded(self._tap, projected))

    def _cut(self, _module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        kwargs = dict(kwargs)
        if kwargs["inputs_embeds"].shape[1] > 1:
            self._cut_prompt(kwargs)
        else:
            self._shift_step(kwargs)
        return args, kwargs

    def _cut_prompt(self, kwargs: dict[str, Any]) -> None:
        selection = self.selection
        if selection is None:
            raise RuntimeError("the decoder ran before any image was encoded")
        visual = (self._ids == self._adapter.config.image_token_id).nonzero()[:, 0]
        others = torch.arange(len(self._ids), device=self._ids.device)
        first, last = int(visual[0]), int(visual[-1])
        rows = visual[selection.rows]  # in the order in which the LLM reads them
        self._n, self._keep = len(self._ids), torch.cat([others[:first], rows, others[last + 1 :]])
        embeds = kwargs["inputs_embeds"][:, self._keep]
        if selection.embeds is not None:
            embeds[0, first : first + len(rows)] = selection.embeds.to(embeds.dtype)
        kwargs["inputs_embeds"] = embeds
        reindexed = torch.arange(len(self._keep), device=self._keep.device)
        kwargs["position_ids"] = (reindexed if self._positions == "reindexed" else self._keep)[None]
        # always a mask of ones: without one, gaps in the positions read as borders between packed prompts
        kwargs["attention_mask"] = torch.ones(1, len(self._keep), dtype=torch.long, device=self._keep.device)

    def _shift_step(self, kwargs: dict[str, Any]) -> None:
        mask = kwargs.get("attention_mask")
        if mask is not None:
            kwargs["attention_mask"] = torch.cat([mask[:, self._keep], mask[:, self._n :]], 1)
        if self._positions == "reindexed":
            kwargs["position_ids"] = kwargs["position_ids"] - (self._n - len(self._keep))


class PruneOnePrompt(PruneInDecoder):
    """`PruneInDecoder` for one unpadded prompt about one image in the model's own forward and `generate`."""

    def __init__(self, adapter: Adapter, plan: Stages, choose: Choose, *, positions: str, image_key: int) -> None:
        super().__init__(adapter, plan, choose, positions=positions, grid=adapter.grid, image_keys=[image_key])
        self._handles.append(adapter.model.register_forward_pre_hook(self._see_ids, with_kwargs=True))

    def _see_ids(self, _module: nn.Module, _args: Any, kwargs: dict[str, Any]) -> None:
        ids = kwargs["input_ids"]
        if ids.shape[1] == 1:
            return
        visual = (ids[0] == self._adapter.config.image_token_id).nonzero()[:, 0]
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        self.begin(Columns.of(visual[None], torch.ones_like(ids, dtype=torch.bool), positions))
