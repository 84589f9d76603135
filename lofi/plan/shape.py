"""The numbers that a count of operations needs, read from a model's config.json."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, sqrt
from pathlib import Path
from typing import Any

from lofi.errors import UserError
from lofi.plan.flops import Decoder, Encoder, Projector, Views, parameters

TILED = ("llava_next", "llava_onevision")  # the picture as a whole and in tiles, rows of tiles ended by a newline
GATED = ("qwen2_5_vl",)  # encoders whose MLP has three matrices
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Shape:
    """One model, as far as its size matters."""

    family: str
    encoder: Encoder
    projector: Projector
    decoder: Decoder
    merge: int  # patches along each side that become one token
    side: int  # patches along each side of a picture or a tile; 0: as many as the picture asks for
    patch: int  # pixels along each side of a patch
    grids: tuple[tuple[int, int], ...] = ()  # height and width in pixels of the grids that tiles may fill
    most_tiles: float = 0  # above so many tiles' worth of tokens they are shrunk; 0: never
    stored: str = "float16"  # the type of the stored weights

    @property
    def weights(self) -> int:
        """Bytes of the stored weights, as far as the matrices tell."""
        return parameters(self.encoder, self.projector, self.decoder) * BYTES.get(self.stored, 2)

    def views(self, width: int, height: int, least: int | None = None, most: int | None = None) -> Views:
        """What a picture of this size becomes; `least` and `most` are pixels, where its size is free."""
        if not self.side:
            tokens = self._free(width, height, least or 0, most or width * height * self.patch**2)
            return Views(1, tokens * self.merge**2, tokens, tokens)
        patches, rows = self.side**2, ceil(self.side / self.merge) ** 2
        if not self.grids:
            return Views(1, patches, rows, rows)
        down, across, tokens = self._grid(width, height)
        tiles = 1 + down * across
        return Views(tiles, patches, tiles * rows, rows + tokens)

    def _free(self, width: int, height: int, least: int, most: int) -> int:
        """Tokens of a picture that keeps its proportions, and its size between two numbers of pixels."""
        step = self.patch * self.merge
        sides = [max(1, round(length / step)) for length in (height, width)]
        pixels = sides[0] * sides[1] * step**2
        scale = sqrt((most if pixels > most else least) / (width * height))
        if pixels > most:
            sides = [max(1, floor(scale * length / step)) for length in (height, width)]
        elif pixels < least:
            sides = [ceil(scale * length / step) for length in (height, width)]
        return sides[0] * sides[1]

    def _grid(self, width: int, height: int) -> tuple[int, int, int]:
        """Rows and columns of tiles, and the tokens in them, once padding is cut and newlines are added."""
        pixels = self.side * self.patch
        best = best_grid(width, height, self.grids)
        down, across = (ceil(length / pixels) for length in best)
        high, wide = down * self.side, across * self.side
        if width / height > wide / high:
            high -= 2 * ((high - int(height * wide / width)) // 2)
        else:
            wide -= 2 * ((wide - int(width * high / height)) // 2)
        ratio = sqrt(high * wide / (self.most_tiles * self.side**2)) if self.most_tiles else 0.0
        if ratio > 1.1:
            high, wide = int(high // ratio), int(wide // ratio)
        return down, across, high * (wide + 1)


def best_grid(width: int, height: int, grids: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Of grids of (height, width), the one that shows most of the picture's own pixels, and wastes least."""

    def worth(grid: tuple[int, int]) -> tuple[int, int]:
        scale = min(grid[1] / width, grid[0] / height)
        shown = min(int(width * scale) * int(height * scale), width * height)
        return shown, shown - grid[0] * grid[1]

    return max(grids, key=worth)


def read_shape(folder: Path) -> Shape:
    """The shape of the model whose config.json lies in the folder; transformers fills in what it leaves out."""
    from transformers import AutoConfig

    try:
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
        return shape_of(config)
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{folder / 'config.json'} cannot be planned with ({reason}); "
            "it must be a vision-language model's that the installed transformers knows"
        ) from None


def shape_of(config: Any) -> Shape:
    """The shape that a transformers config describes."""
    vision, family = config.vision_config, str(config.model_type)
    decoder = decoder_of(config)
    patch = _one(vision.patch_size)
    sized = getattr(vision, "image_size", None)
    merge = _merge(config, _one(sized) // patch if sized else 0)
    encoder = _encoder(vision, family)
    aspect = str(getattr(config, "vision_aspect_ratio", ""))
    return Shape(
        family=family,
        encoder=encoder,
        projector=_projector(config, encoder.width, merge, decoder.width),
        decoder=decoder,
        merge=merge,
        side=_one(sized) // patch if sized else 0,
        patch=patch,
        grids=tuple((down, across) for down, across in config.image_grid_pinpoints) if family in TILED else (),
        most_tiles=int(aspect.removeprefix("anyres_max_")) if aspect.startswith("anyres_max_") else 0,
        stored=str(getattr(config, "dtype", None) or "float16").removeprefix("torch."),
    )


def _one(size: Any) -> int:
    """A length that some families give once for each side."""
    return int(size if isinstance(size, int) else size[0])


def decoder_of(config: Any) -> Decoder:
    """The language model that a transformers config describes."""
    text = config.get_text_config()
    heads: int = text.num_attention_heads
    head: int = getattr(text, "head_dim", None) or text.hidden_size // heads
    return Decoder(
        depth=text.num_hidden_layers,
        width=text.hidden_size,
        mlp=text.intermediate_size,
        queries=heads * head,
        keys=int(getattr(text, "num_key_value_heads", None) or heads) * head,
        vocabulary=text.vocab_size,
        tied=bool(getattr(config, "tie_word_embeddings", False) or getattr(text, "tie_word_embeddings", False)),
    )


def _encoder(vision: Any, family: str) -> Encoder:
    width: int = getattr(vision, "embed_dim", None) or vision.hidden_size
    depth: int = getattr(vision, "num_hidden_layers", None) or vision.depth
    channels: int = vision.num_channels if hasattr(vision, "num_channels") else vision.in_channels
    patch = _one(vision.patch_size)
    whole: Sequence[int] = getattr(vision, "fullatt_block_indexes", None) or ()
    window = int(getattr(vision, "window_size", 0)) if whole else 0
    return Encoder(
        depth=depth,
        width=width,
        mlp=int(getattr(vision, "intermediate_size", None) or width * vision.mlp_ratio),
        patch_values=channels * patch**2 * getattr(vision, "temporal_patch_size", 1),
        gated=family in GATED,
        extra=int(vision.model_type in ("clip_vision_model", "internvl_vision")),
        window=(window // patch) ** 2,
        whole_layers=len(whole),
    )


def _merge(config: Any, side: int) -> int:
    """Patches along each side that become one token, by whatever name the family has for it."""
    if found := getattr(config.vision_config, "spatial_merge_size", None) or getattr(config, "scale_factor", None):
        return int(found)
    if found := getattr(config, "downsample_ratio", None):
        return round(1 / float(found))
    if found := getattr(config, "mm_tokens_per_image", None):
        return round(side / sqrt(int(found)))
    return 1


def _projector(config: Any, width: int, merge: int, out: int) -> Projector:
    """The layers between encoder and decoder."""
    joined = width * merge**2
    if getattr(config, "mm_tokens_per_image", None):
        return Projector((width, out))  # patches that become one token are averaged, not joined
    if getattr(config, "scale_factor", None):
        return Projector((joined, out))
    if hasattr(config.vision_config, "spatial_merge_size"):
        levels = getattr(config.vision_config, "deepstack_visual_indexes", None) or ()
        return Projector((joined, joined, out), copies=1 + len(levels))
    layers = getattr(config, "vision_feature_layer", None)
    return Projector((joined * (len(layers) if isinstance(layers, list | tuple) else 1), out, out))
