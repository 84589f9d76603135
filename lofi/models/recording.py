"""Queries and keys of an encoder as its attention function gets them, with what it then computes unchanged.

The layers asked for are given an attention function of lofi's, which notes the queries and keys and hands over to the
library's own. So windows, rotary embedding and fused projections are as the encoder has them, in every family.
"""

import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from lofi.errors import UserError

RECORDED = ("sdpa", "eager")
Chunk = tuple[Tensor, Tensor]  # queries and keys (heads, t, w) of tokens that see each other

_listeners: dict[int, "Callable[[Tensor, Tensor], None]"] = {}  # id of an attention module -> who notes what it gets


def _name(implementation: str) -> str:
    return f"lofi_encoder_{implementation}"


def _recording(implementation: str) -> Callable[..., Any]:
    def attend(module: nn.Module, query: Tensor, key: Tensor, *rest: Any, **options: Any) -> Any:
        if id(module) in _listeners:
            _listeners[id(module)](query, key)
        # the eager function of a family stands in its own file, under this name
        eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
        return ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager)(module, query, key, *rest, **options)

    return attend


for each in RECORDED:
    AttentionInterface.register(_name(each), _recording(each))
    # without a mask function of the same name a padded image would silently go unmasked
    ALL_MASK_ATTENTION_FUNCTIONS.register(_name(each), ALL_MASK_ATTENTION_FUNCTIONS[each])


class Recording:
    """While it lasts, the queries and keys of chosen encoder layers are noted."""

    def __init__(self, attentions: Sequence[Any], layers: Collection[int]) -> None:
        self.chunks: dict[int, list[Chunk]] = {layer: [] for layer in layers}
        self._listening = [id(attentions[layer]) for layer in layers]
        self._before = [(module.config, module.config._attn_implementation) for module in attentions]
        if not layers:
            return
        for config, implementation in self._before:
            if implementation not in RECORDED and not implementation.startswith("lofi_"):
                raise UserError(
                    f"the encoder's attention is {implementation!r}, whose queries and keys cannot be read; load the "
                    f"model with one of {', '.join(RECORDED)}"
                )
            if implementation in RECORDED:
                config._attn_implementation = _name(implementation)
        for layer, key in zip(layers, self._listening, strict=True):
            _listeners[key] = self._note(layer)

    def _note(self, layer: int) -> Callable[[Tensor, Tensor], None]:
        def note(query: Tensor, key: Tensor) -> None:
            self.chunks[layer] += zip(query, key, strict=True)

        return note

    def clear(self) -> None:
        """Forget what was noted, before the next images."""
        for chunks in self.chunks.values():
            chunks.clear()

    def remove(self) -> None:
        """Give the layers their attention function back."""
        for key in self._listening:
            _listeners.pop(key, None)
        for config, implementation in self._before:
            config._attn_implementation = implementation
