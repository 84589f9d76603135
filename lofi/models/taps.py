"""Hooks that read, never write: encoder queries and keys, the projector's input, the decoder's hidden states.

They work under every attention kernel, because nothing asks a kernel for its weights: attention is made
again, for one image and only for the layers a reducer asks for, from the queries and keys.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor, nn

if TYPE_CHECKING:
    from lofi.models.adapter import Adapter


class Hooks:
    """Hooks that live as long as a `with` block."""

    def __init__(self) -> None:
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def remove(self) -> None:
        """Take every hook off again. A tap within a tap is a handle like any other."""
        for handle in self._handles:
            handle.remove()


class EncoderTap(Hooks):
    """Records, while images are encoded, what reducers look at."""

    def __init__(self, adapter: Adapter, layers: Collection[int] = ()) -> None:
        super().__init__()
        self._adapter = adapter
        self._queries: dict[int, Tensor] = {}
        self._keys: dict[int, Tensor] = {}
        self._seen: dict[str, Tensor] = {}
        blocks = adapter.encoder_layers
        for layer in {index % len(blocks) for index in layers}:
            self._record(blocks[layer].get_submodule(adapter.family.query_proj), self._queries, layer)
            self._record(blocks[layer].get_submodule(adapter.family.key_proj), self._keys, layer)
        self._handles += [
            adapter.projector.register_forward_pre_hook(self._see_hidden),
            blocks[0].register_forward_pre_hook(self._see_entry, with_kwargs=True),
            blocks[adapter.feature_layer].register_forward_hook(self._see_features),
        ]

    def _record(self, module: nn.Module, into: dict[int, Tensor], layer: int) -> None:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            into[layer] = output

        self._handles.append(module.register_forward_hook(hook))

    def _see_hidden(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._seen["hidden"] = inputs[0]

    def _see_entry(self, _module: nn.Module, inputs: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
        self._seen["entry"] = inputs[0] if inputs else kwargs["hidden_states"]

    def _see_features(self, _module: nn.Module, _inputs: Any, output: Tensor | tuple[Tensor, ...]) -> None:
        self._seen["features"] = output if isinstance(output, Tensor) else output[0]

    def hidden(self) -> Tensor:
        """(b, n, dv) what the projector read."""
        return self._get("hidden")

    def entry(self) -> Tensor:
        """(b, n_extra + n, dv) what the encoder's first layer read."""
        return self._get("entry")

    def extra(self) -> Tensor:
        """(b, n_extra, dv) what the feature layer gave for the tokens before the patches."""
        return self._get("features")[:, : self.n_extra]

    def _get(self, name: str) -> Tensor:
        if name not in self._seen:
            raise RuntimeError("no image was encoded under this tap")
        return self._seen[name]

    @property
    def n_extra(self) -> int:
        """Tokens before the patches: 1 where the encoder has a CLS token."""
        return self.entry().shape[1] - self.hidden().shape[1]

    def attention(self) -> TappedAttention:
        """The recorded attention of all images."""
        heads = self._adapter.config.vision_config.num_attention_heads
        return TappedAttention(self._queries, self._keys, heads, self.n_extra, len(self._adapter.encoder_layers))


class TappedAttention:
    """Attention of b images, from recorded queries and keys (b, tokens, dv), CLS first where there is one."""

    def __init__(
        self, queries: dict[int, Tensor], keys: dict[int, Tensor], heads: int, n_extra: int, depth: int
    ) -> None:
        self._queries, self._keys = queries, keys
        self.heads, self.n_extra, self.depth = heads, n_extra, depth  # n_extra: 1 where there is a CLS token

    def changed(self, change: Callable[[Tensor], Tensor]) -> TappedAttention:
        """The same with every recorded query and key changed."""
        queries, keys = ({layer: change(x) for layer, x in side.items()} for side in (self._queries, self._keys))
        return TappedAttention(queries, keys, self.heads, self.n_extra, self.depth)

    def of(self, index: int) -> ImageAttention:
        """The attention of one image."""
        return ImageAttention(self, index)

    def raw(self, kind: str, layer: int, index: int) -> Tensor:
        """(tokens, dv) queries or keys of one image, float32."""
        recorded = self._queries if kind == "query" else self._keys
        layer %= self.depth
        if layer not in recorded:
            raise KeyError(f"encoder layer {layer} was not tapped; tapped: {sorted(recorded)}")
        return recorded[layer][index].float()

    def maps(self, layer: int, index: int, rows: slice) -> Tensor:
        """(heads, rows, tokens) softmaxed attention of the query `rows` of one image."""
        query = self.raw("query", layer, index)[rows]
        key = self.raw("key", layer, index)
        width = query.shape[-1] // self.heads
        query, key = (side.reshape(len(side), self.heads, width).transpose(0, 1) for side in (query, key))
        scores: Tensor = query @ key.mT * width**-0.5
        return scores.softmax(-1)


class ImageAttention:
    """One image's encoder attention, as `lofi.methods.context.EncoderAttention` promises it."""

    def __init__(self, tapped: TappedAttention, index: int) -> None:
        self._tapped, self._index = tapped, index

    @property
    def n_extra(self) -> int:
        """Tokens before the patches."""
        return self._tapped.n_extra

    @property
    def heads(self) -> int:
        """Attention heads."""
        return self._tapped.heads

    @property
    def depth(self) -> int:
        """Layers of the encoder."""
        return self._tapped.depth

    def cls(self, layer: int) -> Tensor:
        """(n,) attention of the CLS query, mean over heads, CLS column cut."""
        if self.n_extra == 0:
            raise ValueError("this encoder has no CLS token; use received attention")
        return self._tapped.maps(layer, self._index, slice(0, 1)).mean(0)[0, self.n_extra :]

    def received(self, layer: int) -> Tensor:
        """(n,) attention that each patch receives, mean over heads and over all queries."""
        return self._tapped.maps(layer, self._index, slice(None)).mean((0, 1))[self.n_extra :]

    def keys(self, layer: int) -> Tensor:
        """(n_extra + n, dv) raw keys."""
        return self._tapped.raw("key", layer, self._index)

    def queries(self, layer: int) -> Tensor:
        """(n_extra + n, dv) raw queries."""
        return self._tapped.raw("query", layer, self._index)

    def tile(self, index: int) -> ImageAttention:
        """The whole image is the only tile."""
        raise ValueError(f"this image has no tiles, so none of number {index}")


class DecoderTap(Hooks):
    """Records the hidden states that enter chosen decoder layers."""

    def __init__(self, adapter: Adapter, layers: Sequence[int]) -> None:
        super().__init__()
        self.states: dict[int, Tensor] = {}  # layer -> (b, s, d)
        for layer in set(layers):
            self._record(adapter.layers[layer], layer)

    def _record(self, module: nn.Module, layer: int) -> None:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
            # the prefill only: decoding steps would overwrite it with one column
            self.states.setdefault(layer, inputs[0] if inputs else kwargs["hidden_states"])

        self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))


def site_layers(depth: int) -> dict[str, int]:
    """The decoder layers whose input is a site: 0, 1/4, 1/2, 3/4 and the last of `depth` layers."""
    return {
        "llm_0": 0,
        "llm_1_4": round(depth / 4),
        "llm_1_2": round(depth / 2),
        "llm_3_4": round(3 * depth / 4),
        "llm_last": depth - 1,
    }
