"""Hooks that read, never write: encoder queries and keys, the projector's input, the decoder's hidden states.

They work under every attention kernel, because nothing asks a kernel for its weights: attention is made
again, for one image and only for the layers a reducer asks for, from the queries and keys.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
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
        self._hidden: Tensor | None = None
        depth = len(adapter.encoder_layers)
        for layer in {index % depth for index in layers}:
            module = adapter.encoder_layers[layer]
            self._record(module.get_submodule(adapter.family.query_proj), self._queries, layer)
            self._record(module.get_submodule(adapter.family.key_proj), self._keys, layer)
        self._handles.append(adapter.projector.register_forward_pre_hook(self._see_hidden))

    def _record(self, module: nn.Module, into: dict[int, Tensor], layer: int) -> None:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            into[layer] = output

        self._handles.append(module.register_forward_hook(hook))

    def _see_hidden(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._hidden = inputs[0]

    def hidden(self) -> Tensor:
        """(b, n, dv) what the projector read."""
        if self._hidden is None:
            raise RuntimeError("no image was encoded under this tap")
        return self._hidden

    def attention(self) -> TappedAttention:
        """The recorded attention of all images."""
        vision = self._adapter.config.vision_config
        n_extra = next(iter(self._queries.values())).shape[1] - self.hidden().shape[1] if self._queries else 0
        return TappedAttention(
            self._queries, self._keys, vision.num_attention_heads, n_extra, len(self._adapter.encoder_layers)
        )


class TappedAttention:
    """Attention of b images, from recorded queries and keys (b, tokens, dv), CLS first where there is one."""

    def __init__(
        self, queries: dict[int, Tensor], keys: dict[int, Tensor], heads: int, n_extra: int, depth: int
    ) -> None:
        self._queries, self._keys = queries, keys
        self._heads, self._n_extra, self._depth = heads, n_extra, depth

    def of(self, index: int) -> ImageAttention:
        """The attention of one image."""
        return ImageAttention(self, index)

    def raw(self, kind: str, layer: int, index: int) -> Tensor:
        """(tokens, dv) queries or keys of one image, float32."""
        recorded = self._queries if kind == "query" else self._keys
        layer %= self._depth
        if layer not in recorded:
            raise KeyError(f"encoder layer {layer} was not tapped; tapped: {sorted(recorded)}")
        return recorded[layer][index].float()

    def maps(self, layer: int, index: int, rows: slice) -> Tensor:
        """(heads, rows, tokens) softmaxed attention of the query `rows` of one image."""
        query = self.raw("query", layer, index)[rows]
        key = self.raw("key", layer, index)
        width = query.shape[-1] // self._heads
        query, key = (side.reshape(len(side), self._heads, width).transpose(0, 1) for side in (query, key))
        scores: Tensor = query @ key.mT * width**-0.5
        return scores.softmax(-1)

    @property
    def n_extra(self) -> int:
        """Tokens before the patches: 1 where the encoder has a CLS token."""
        return self._n_extra


class ImageAttention:
    """One image's encoder attention, as `lofi.methods.context.EncoderAttention` promises it."""

    def __init__(self, tapped: TappedAttention, index: int) -> None:
        self._tapped, self._index = tapped, index

    def cls(self, layer: int) -> Tensor:
        """(n,) attention of the CLS query, mean over heads, CLS column cut."""
        if self._tapped.n_extra == 0:
            raise ValueError("this encoder has no CLS token; use received attention")
        return self._tapped.maps(layer, self._index, slice(0, 1)).mean(0)[0, self._tapped.n_extra :]

    def received(self, layer: int) -> Tensor:
        """(n,) attention that each patch receives, mean over heads and over all queries."""
        return self._tapped.maps(layer, self._index, slice(None)).mean((0, 1))[self._tapped.n_extra :]

    def keys(self, layer: int) -> Tensor:
        """(n, dv) raw keys of the patches."""
        return self._tapped.raw("key", layer, self._index)[self._tapped.n_extra :]

    def queries(self, layer: int) -> Tensor:
        """(n, dv) raw queries of the patches."""
        return self._tapped.raw("query", layer, self._index)[self._tapped.n_extra :]


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
