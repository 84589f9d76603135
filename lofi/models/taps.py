"""Hooks that read, never write: encoder queries and keys, the projector's input, the decoder's hidden states.

Nothing asks a kernel for its weights: attention is made again, for one image and only for the layers a reducer asks
for, from the queries and keys.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor, nn

from lofi.models.attention import TappedAttention
from lofi.models.encoded import EncodedImages
from lofi.models.geometry import Encoding, Packing
from lofi.models.recording import Recording

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
        blocks, read = adapter.encoder_layers, adapter.feature_layer  # before any hook: it may be refused
        attentions: list[Any] = [block.get_submodule(adapter.encoder.attention) for block in blocks]
        self._heads = int(attentions[0].num_heads)
        self._recording = Recording(attentions, sorted({index % len(blocks) for index in layers}))
        self._seen: dict[str, Any] = {}
        self._packing: Packing | None = None
        self._handles += [
            self._recording,
            PackingTap(adapter.core, self._see_packing),
            adapter.part(adapter.family.tower).register_forward_pre_hook(self._see_images, with_kwargs=True),
            adapter.projector.register_forward_hook(self._see_projector),
            blocks[0].register_forward_pre_hook(self._see_entry, with_kwargs=True),
            blocks[read].register_forward_hook(self._see_features),
        ]

    def _see_images(self, _module: nn.Module, inputs: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
        self._recording.clear()
        pixels = inputs[0] if inputs else kwargs.get("pixel_values", kwargs.get("hidden_states"))
        self._seen = {"pixels": pixels, "grids": kwargs.get("grid_thw", inputs[1] if len(inputs) > 1 else None)}
        self._packing = None

    def _see_packing(self, packing: Packing) -> None:
        self._packing = packing

    def _see_projector(self, _module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._seen["hidden"], self._seen["rows"] = inputs[0], output.shape[:-1].numel()

    def _see_entry(self, _module: nn.Module, inputs: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
        self._seen["entry"] = inputs[0] if inputs else kwargs["hidden_states"]

    def _see_features(self, _module: nn.Module, _inputs: Any, output: Tensor | tuple[Tensor, ...]) -> None:
        self._seen["features"] = output if isinstance(output, Tensor) else output[0]

    def read(self, ids: Tensor, visual: Tensor) -> EncodedImages:
        """What the prompts (b, s) hold, whose placeholders are `visual` (b, s): the images in their order."""
        if "hidden" not in self._seen:
            raise RuntimeError("no image was encoded under this tap")
        family, core = self._adapter.family, self._adapter.core
        hidden, features, entry, pixels = (
            self._seen[name].to(self._adapter.device) for name in ("hidden", "features", "entry", "pixels")
        )
        n_extra = self._adapter.encoder.cls
        patches = entry.shape[-2] - n_extra
        encoding = Encoding(
            core=core,
            groups=family.function("groups")(core, patches),
            count=self._seen["rows"],
            patches=patches,
            packing=self._packing,
            grids=self._seen["grids"],
            ids=ids,
            visual=visual,
        )
        chunks = {
            layer: tuple((query.to(hidden.device), key.to(hidden.device)) for query, key in pairs)
            for layer, pairs in self._recording.chunks.items()
        }
        return EncodedImages(
            adapter=self._adapter,
            geometries=tuple(family.function("images")(encoding)),
            hidden=hidden.reshape(self._seen["rows"], -1),
            features=features,
            entry=entry,
            pixels=pixels,
            attention=TappedAttention(chunks, n_extra, len(self._adapter.encoder_layers), self._heads),
        )


class PackingTap:
    """Notes how a model packs its tiles, where it does so in a function of its own."""

    def __init__(self, core: Any, note: Callable[[Packing], None]) -> None:
        self._core = core
        if not hasattr(core, "pack_image_features"):
            return
        pack, shape_of = core.pack_image_features, _layout_function(core)

        def noted(image_features: Sequence[Tensor], image_sizes: Tensor, *rest: Any, **options: Any) -> Any:
            def again(features: list[Tensor], line_end: Tensor) -> list[Tensor]:
                places, _ = pack(features, image_sizes, *rest, **{**options, "image_newline": line_end})
                return list(places)

            tiles = tuple(len(each) for each in image_features)
            layouts = tuple(shape_of(size) if t > 1 else (0, 0) for size, t in zip(image_sizes, tiles, strict=True))
            note(Packing(tiles, layouts, again))
            return pack(image_features, image_sizes, *rest, **options)

        core.pack_image_features = noted

    def remove(self) -> None:
        """Give the model its function back."""
        vars(self._core).pop("pack_image_features", None)


def _layout_function(core: Any) -> Callable[[Tensor], tuple[int, int]]:
    """Rows and columns of the tiles of an image of some size, by the function of the model's own file."""
    shape_of = sys.modules[type(core).__module__].get_anyres_image_grid_shape
    return lambda size: shape_of(size, core.config.image_grid_pinpoints, core.config.vision_config.image_size)


class DecoderTap(Hooks):
    """Records the hidden states that enter chosen decoder layers."""

    def __init__(self, adapter: Adapter, layers: Sequence[int]) -> None:
        super().__init__()
        self.states: dict[int, Tensor] = {}  # layer -> (b, s, d)
        self._device = adapter.device
        for layer in set(layers):
            self._record(adapter.layers[layer], layer)

    def _record(self, module: nn.Module, layer: int) -> None:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
            # the prefill only: decoding steps would overwrite it with one column
            states = inputs[0] if inputs else kwargs["hidden_states"]
            if layer not in self.states:
                self.states[layer] = states.to(self._device)

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
