"""Which projector rows and encoder patches stand behind each visual token of an image, and where in the prompt it is.

Every family lays its tokens out in its own way: tiles with borders cut off, 2 x 2 patches merged, windows. The
layouts are not made again here: the library's own packing and shuffling functions are run on indices.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Geometry:
    """The n visual tokens of one image, tile after tile, the whole image first."""

    rows: Tensor  # (n,) long: the projector's output row of each
    patches: Tensor  # (n, g) long: the encoder's patches of each, counted over all images and tiles
    order: Tensor  # (n,) long: its rank among the image's placeholders
    size: int  # the image's placeholders; those that are no token of it, such as line ends, always stay
    grids: tuple[tuple[int, int], ...]  # (h, w) of each tile, raster order
    layout: tuple[int, int] | None = None  # rows and columns of the tiles after the first; None for a single tile
    tiles: tuple[int, ...] = (0,)  # where each tile stands among all that the encoder has read


@dataclass(frozen=True)
class Packing:
    """One call of a model's own `pack_image_features`: the tiles of each image, and a way to call it again."""

    tiles: tuple[int, ...]
    layouts: tuple[tuple[int, int], ...]  # rows and columns of the tiles after the first
    again: Callable[[list[Tensor], Tensor], list[Tensor]]  # features of each image (tiles, n, c) and line end (c,)


@dataclass(frozen=True)
class Encoding:
    """What was seen of a batch on its way through encoder and projector."""

    core: Any
    groups: Tensor  # (m, g) the patches of each projector row of a tile
    count: int  # rows that left the projector
    patches: int  # patches of one tile, or of all images where the encoder reads them in one row
    packing: Packing | None
    grids: Tensor | None  # (images, 3) time, height and width in patches, for encoders that take any size
    ids: Tensor  # (b, s) the prompts
    visual: Tensor  # (b, s) bool: placeholders


def one_to_one(_core: Any, patches: int) -> Tensor:
    """(m, 1) every patch is a token."""
    return torch.arange(patches)[:, None]


def pooled(core: Any, patches: int) -> Tensor:
    """(m, g) tokens that are means over squares of patches."""
    projector: nn.Module = core.multi_modal_projector
    side, kernel = isqrt(patches), int(projector.kernel_size)  # type: ignore[arg-type]
    index = torch.arange(patches).view(side // kernel, kernel, side // kernel, kernel)
    return index.permute(0, 2, 1, 3).reshape(-1, kernel * kernel)


def shuffled(core: Any, patches: int) -> Tensor:
    """(m, g) tokens that hold squares of patches side by side, as InternVL arranges them."""
    side = isqrt(patches)
    index = torch.arange(patches, dtype=torch.float64).view(1, side, side, 1)
    mixed: Tensor = core.pixel_shuffle(index, scale_factor=core.config.downsample_ratio)
    return mixed.reshape(-1, mixed.shape[-1]).long()


def connected(core: Any, patches: int) -> Tensor:
    """(m, g) tokens that hold squares of patches side by side, as Idefics3 and SmolVLM arrange them."""
    index = torch.arange(patches, dtype=torch.float64).view(1, patches, 1)
    mixed: Tensor = core.connector.pixel_shuffle(index, core.connector.scale_factor)
    return mixed[0].long()


def merged(core: Any, _patches: int) -> Tensor:
    """(1, g) tokens that hold squares of patches, which the encoder reads one after the other."""
    return torch.arange(core.config.vision_config.spatial_merge_size**2)[None]


def single_tiles(seen: Encoding) -> list[Geometry]:
    """Images of one tile each."""
    return [_tiled(seen, (tile,), None) for tile in range(seen.count // len(seen.groups))]


def runs_of_tiles(seen: Encoding) -> list[Geometry]:
    """Images whose tiles stand in one run of placeholders, the whole image last where there are several."""
    found, first = [], 0
    for _, start, stop in _runs(seen.visual):
        count = (stop - start) // len(seen.groups)
        found.append(_tiled(seen, tuple(range(first, first + count)), (1, count - 1) if count > 1 else None))
        first += count
    return found


def marked_tiles(seen: Encoding) -> list[Geometry]:
    """Images whose tiles stand apart, each behind a marker: the marker of the last one says `the whole image`.

    Between two tiles of a row stands as little as anywhere; the first wider gap ends the first row of tiles.
    """
    found, first, inside = [], 0, []
    runs = _runs(seen.visual)
    last = {row: int(seen.ids[row, start - 1]) for row, start, _ in runs}
    for row, start, stop in runs:
        inside.append((start, stop))
        if int(seen.ids[row, start - 1]) == last[row]:
            found.append(_tiled(seen, tuple(range(first, first + len(inside))), _layout(inside[:-1])))
            first, inside = first + len(inside), []
    return found


def packed_tiles(seen: Encoding) -> list[Geometry]:
    """Any-resolution images: the whole image, then the mosaic of its tiles without borders, each line with an end."""
    packing = seen.packing
    if packing is None:
        raise RuntimeError("the model did not pack its tiles")
    places = _places(packing, isqrt(len(seen.groups)))
    starts = [sum(packing.tiles[:i]) for i in range(len(packing.tiles))]
    return [_packed(seen, *each) for each in zip(starts, packing.layouts, places, strict=True)]


def merged_squares(seen: Encoding) -> list[Geometry]:
    """Images of any size, each token a square of patches; the encoder may read them window by window."""
    if seen.grids is None:
        raise RuntimeError("the encoder was given no sizes of images")
    merge = seen.core.config.vision_config.spatial_merge_size
    back = _window_order(seen.core, seen.grids).argsort()
    found, first = [], 0
    for time, height, width in seen.grids.tolist():
        grid = (height // merge, width // merge)
        n = time * grid[0] * grid[1]
        rows = back[first : first + n]
        patches = rows[:, None] * merge**2 + seen.groups
        found.append(Geometry(rows, patches, torch.arange(n), n, (grid,)))
        first += n
    return found


def _window_order(core: Any, grids: Tensor) -> Tensor:
    """(n,) the tokens of all images in the order in which the encoder reads them."""
    config = core.config.vision_config
    if getattr(config, "window_size", None) is None or not hasattr(core.visual, "permute_input_for_window_attn"):
        return torch.arange(int(grids.prod(1).sum()) // config.spatial_merge_size**2)
    from transformers.vision_utils import get_vision_window_index

    order, _ = get_vision_window_index(
        grids.cpu(),
        spatial_merge_size=config.spatial_merge_size,
        window_size=config.window_size,
        patch_size=config.patch_size,
    )
    ordered: Tensor = order
    return ordered


def _tiled(seen: Encoding, tiles: tuple[int, ...], layout: tuple[int, int] | None) -> Geometry:
    """An image whose tiles stand in the prompt as the encoder read them, the whole image last."""
    m = len(seen.groups)
    side = isqrt(m)
    ranks = torch.arange(len(tiles) * m).chunk(len(tiles))
    turned = (len(tiles) - 1, *range(len(tiles) - 1))  # the whole image first
    ordered = tuple(tiles[i] for i in turned)
    return Geometry(
        rows=torch.cat([torch.arange(m) + tile * m for tile in ordered]),
        patches=torch.cat([seen.groups + tile * seen.patches for tile in ordered]),
        order=torch.cat([ranks[i] for i in turned]),
        size=len(tiles) * m,
        grids=((side, side),) * len(tiles),
        layout=layout,
        tiles=ordered,
    )


def _packed(seen: Encoding, first: int, layout: tuple[int, int], places: Tensor) -> Geometry:
    """One any-resolution image whose first tile is `first`; places (size, 3) as `_places` gives them."""
    m = len(seen.groups)
    side = isqrt(m)
    kind, y, x = places.unbind(-1)
    tile = kind * (1 + (y // side) * layout[1] + x // side)
    real = (kind >= 0).nonzero()[:, 0]
    order = real[torch.argsort(tile[real], stable=True)]  # tile after tile, each in raster order
    which, within = tile[order] + first, (y % side)[order] * side + (x % side)[order]
    numbers = sorted(set(which.tolist()))  # a tile that is all border has no token
    return Geometry(
        rows=which * m + within,
        patches=seen.groups[within] + (which * seen.patches)[:, None],
        order=order,
        size=len(places),
        grids=tuple(_extent(within[which == number], side) for number in numbers),
        layout=layout if len(numbers) > 1 else None,
        tiles=tuple(numbers),
    )


def _places(packing: Packing, side: int) -> list[Tensor]:
    """For each image (size, 3): of every placeholder 0 for the whole image, 1 for the mosaic of its tiles, -1 for a
    line end; and its y and x in that.

    A model that shrinks its mosaic mixes neighbours; their coordinates mix alike, and the nearest stands for the token.
    """
    y, x = (axis.reshape(-1) for axis in torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"))
    images = []
    for count, (_, columns) in zip(packing.tiles, packing.layouts, strict=True):
        tiles = [torch.stack([torch.zeros_like(y), y, x], -1)]
        for tile in range(count - 1):
            down, right = divmod(tile, columns)
            tiles.append(torch.stack([torch.ones_like(y), y + down * side, x + right * side], -1))
        images.append(torch.stack(tiles).float())
    return [image.round().long() for image in packing.again(images, torch.full((3,), -1.0))]


def _extent(within: Tensor, side: int) -> tuple[int, int]:
    """Rows and columns of the part of a tile that is left."""
    return len(set((within // side).tolist())), len(set((within % side).tolist()))


def _runs(visual: Tensor) -> list[tuple[int, int, int]]:
    """Row, first and last + 1 column of each run of placeholders."""
    edges = torch.nn.functional.pad(visual.int(), (1, 1)).diff(dim=1)
    starts, stops = (edges == 1).nonzero().tolist(), (edges == -1).nonzero().tolist()
    return [(row, start, stop) for (row, start), (_, stop) in zip(starts, stops, strict=True)]


def _layout(crops: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """Rows and columns of tiles that stand apart in the prompt, from the gaps between them."""
    if not crops:
        return None
    gaps = [after[0] - before[1] for before, after in pairwise(crops)]
    columns = next((i + 1 for i, gap in enumerate(gaps) if gap > min(gaps)), len(crops))
    return len(crops) // columns, columns
