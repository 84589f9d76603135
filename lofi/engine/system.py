"""The text in front of the image: the same for every image and cell, so the decoder reads it once."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from lofi.engine.questions import Prefix
from lofi.models.adapter import Adapter


class Reading(DynamicLayer):  # type: ignore[misc]
    """A layer's keys and values that are read and never added to: a prefill whose cache nobody will continue."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Those it holds, with the new ones behind them."""
        return torch.cat([self.keys, key_states], -2), torch.cat([self.values, value_states], -2)


@dataclass(frozen=True)
class System:
    """What every layer of the decoder makes of the first `columns` tokens of all prompts."""

    ids: tuple[int, ...]
    layers: tuple[tuple[Tensor, Tensor], ...]  # keys and values (1, g, columns, w)

    @property
    def columns(self) -> int:
        """How many tokens that is."""
        return len(self.ids)

    def cache(self, rows: int, *, goes_on: bool) -> DynamicCache:
        """A cache of so many rows that has read them; `goes_on` if it must hold what comes behind them too."""
        cache = DynamicCache()
        cache.layers = [_filled(DynamicLayer() if goes_on else Reading(), rows, *layer) for layer in self.layers]
        return cache


def _filled(layer: DynamicLayer, rows: int, keys: Tensor, values: Tensor) -> DynamicLayer:
    layer.lazy_initialization(keys, values)
    layer.keys, layer.values = keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1)
    return layer


@torch.inference_mode()
def read_system(adapter: Adapter, before: Prefix) -> System:
    """The tokens in front of the first image token, as every layer of the decoder sees them."""
    first = int(before.placeholders.min())
    ids = before.ids[:first]
    cache = DynamicCache()
    if first:
        mask = torch.ones(first, first, dtype=torch.bool, device=ids.device).tril()
        adapter.decode(adapter.embed(ids)[None], before.positions[..., None, :first], mask[None, None], cache)
    return System(tuple(ids.tolist()), tuple((layer.keys, layer.values) for layer in cache.layers))
