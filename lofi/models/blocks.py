"""A CLIP or SigLIP encoder run again, block by block, so that tokens can merge inside it.

The library's own submodules do the work, in the library's order; only the loop over them is lofi's, because no hook
can stand between the attention and the MLP of a block and change the number of tokens.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from lofi.errors import UserError
from lofi.models.families import TESTED_TRANSFORMERS

PARTS = (
    "layer_norm1",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.out_proj",
    "layer_norm2",
    "mlp",
)


class ClipBlocks:
    """One image in front of the encoder, as `lofi.methods.context.EncoderBlocks` promises it.

    entries: of each tile (t, dv) what the first layer reads, CLS first where there is one: embeddings after the
    tower's own norm.
    layers: all layers of the encoder. feature_layer: the one whose output is read, -1 for the last.
    """

    def __init__(self, entries: Sequence[Tensor], layers: Sequence[nn.Module], feature_layer: int) -> None:
        self._entries, self._feature_layer = entries, feature_layer
        self._all, self._layers = layers, layers[: feature_layer % len(layers) + 1]

    @torch.inference_mode()
    def run(self, merge: Callable[[int, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        """(t, dv) states at the feature layer, after `merge` between attention and MLP of every block."""
        (x,) = self._entries
        sizes = torch.ones(len(x), device=x.device)
        # Parts are looked up here, so that an encoder of another kind fails only where a reducer runs it.
        for index, block in enumerate(map(_Block, self._layers)):
            keys, x = block.attend(x, sizes)
            x, sizes = merge(index, keys, x, sizes)
            x = block.transform(x)
        return x

    def tile(self, index: int) -> "ClipBlocks":
        """The encoder in front of one tile."""
        return ClipBlocks((self._entries[index],), self._all, self._feature_layer)


class _Block:
    """One layer of the encoder in two halves."""

    def __init__(self, layer: nn.Module) -> None:
        try:
            parts: list[Any] = [layer.get_submodule(path) for path in PARTS]
            attention: Any = layer.get_submodule("self_attn")
            self._heads, self._scale = int(attention.num_heads), float(attention.scale)
        except AttributeError as error:
            raise UserError(
                f"{type(layer).__name__} is not built like an encoder layer of CLIP or SigLIP ({error}): lofi was "
                f"checked with transformers {TESTED_TRANSFORMERS}; install that version"
            ) from None
        self._norm1, self._query, self._key, self._value, self._out, self._norm2, self._mlp = parts

    def attend(self, x: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """The raw keys (t, dv), and the states (t, dv) after attention, which adds log(sizes) to every key's logits."""
        normed = self._norm1(x)
        keys: Tensor = self._key(normed).to(x.device)
        sides = self._query(normed).to(x.device), keys, self._value(normed).to(x.device)
        query, key, value = map(self._split, sides)
        bias = sizes.log().to(query.dtype).expand(1, 1, len(x), -1)
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=self._scale)
        return keys, x + self._out(mixed[0].transpose(0, 1).reshape(len(x), -1)).to(x.device)

    def transform(self, x: Tensor) -> Tensor:
        """The states (t, dv) after the MLP."""
        return x + self._mlp(self._norm2(x)).to(x.device)  # type: ignore[no-any-return]

    def _split(self, side: Tensor) -> Tensor:
        """(1, heads, t, w) of queries, keys or values (t, dv)."""
        return side.reshape(1, len(side), self._heads, -1).transpose(1, 2)
