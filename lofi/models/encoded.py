"""Encoded images as reducers see them, whatever the family that encoded them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lofi.methods.context import Question, TextTower, Tiles, VisualContext
from lofi.models.attention import ImageAttention, TappedAttention
from lofi.models.blocks import ClipBlocks
from lofi.models.geometry import Geometry

if TYPE_CHECKING:
    from lofi.models.adapter import Adapter


@dataclass(frozen=True)
class EncodedImages:
    """Images that were encoded together: R projector rows of the width that the projector reads."""

    adapter: Adapter
    geometries: tuple[Geometry, ...]
    hidden: Tensor  # (R, dh)
    features: Tensor  # what the feature layer gave: (tiles, n_extra + patches, dv), or (patches, dv) for all images
    entry: Tensor  # of the same shape: what the encoder's first layer read
    attention: TappedAttention
    pixels: Tensor  # what the encoder was given: (tiles, channels, height, width), or (patches, values)

    def __len__(self) -> int:
        return len(self.geometries)

    def pixels_of(self, index: int) -> Tensor:
        """The pixels of one image, or of its first tile, which shows the whole of it."""
        geometry = self.geometries[index]
        if self.pixels.ndim == 4:
            return self.pixels[geometry.tiles[0]]
        return self.pixels[int(geometry.patches.min()) : int(geometry.patches.max()) + 1]

    def changed(self, change: Callable[[Tensor], Tensor]) -> EncodedImages:
        """The same with every feature changed."""
        return replace(
            self,
            hidden=change(self.hidden),
            features=change(self.features),
            entry=change(self.entry),
            attention=self.attention.changed(change),
        )

    def context(
        self,
        index: int,
        projected: Tensor,
        image_key: int,
        *,
        question: Question | None = None,
        tower: TextTower | None = None,
    ) -> VisualContext:
        """What a reducer sees of one image, whose tokens the LLM reads as `projected` (n, d), tile after tile."""
        geometry, adapter, n_extra = self.geometries[index], self.adapter, self.attention.n_extra
        sizes = [prod(grid) for grid in geometry.grids]
        tiles, patches = list(geometry.tiles), torch.split(geometry.patches, sizes)
        # such a token can go through the projector only where that reads patch by patch
        has_extra = n_extra > 0 and adapter.family.patchwise
        extra = self.features[tiles, :n_extra].flatten(0, 1) if has_extra else None
        return VisualContext(
            hidden=self.hidden[geometry.rows.to(self.hidden.device)],
            projected=projected,
            grid=geometry.grids[0],
            image_key=image_key,
            attention=ImageAttention(self.attention, patches),
            feature_layer=adapter.feature_layer,
            extra=extra,
            project=adapter.project,
            question=question,
            tower=tower,
            blocks=self._blocks(geometry) if adapter.encoder.blocks else None,
            tiles=_tiles(geometry),
        )

    def _blocks(self, geometry: Geometry) -> ClipBlocks:
        adapter = self.adapter
        entries = tuple(self.entry[tile] for tile in geometry.tiles)
        return ClipBlocks(entries, adapter.encoder_layers, adapter.feature_layer)


def _tiles(geometry: Geometry) -> Tiles | None:
    if geometry.layout is None:
        return None
    alike = len(set(geometry.grids)) == 1
    return Tiles(len(geometry.grids), geometry.layout, None if alike else geometry.grids)


@dataclass(frozen=True)
class Encoded:
    """b images of one geometry, with what the LLM reads of them."""

    images: EncodedImages
    lines: Tensor  # (b, size, d) all that stands in the placeholders of the prompt, line ends included
    projected: Tensor  # (b, n, d) the visual tokens among them, tile after tile
    deep: tuple[Tensor, ...]  # (b, size, d) what the decoder adds to them after each of its first layers
    index: tuple[int, ...]  # row -> its place among the images that were encoded together

    @property
    def geometry(self) -> Geometry:
        """That of all rows, but for where their tiles stood."""
        return self.images.geometries[0]

    def context(
        self, row: int, image_key: int, *, question: Question | None = None, tower: TextTower | None = None
    ) -> VisualContext:
        """What a reducer sees of the image in that row."""
        return self.images.context(self.index[row], self.projected[row], image_key, question=question, tower=tower)

    def changed(self, change: Callable[[Tensor], Tensor]) -> Encoded:
        """The same with every feature changed."""
        lines = change(self.lines)
        return replace(
            self,
            images=self.images.changed(change),
            lines=lines,
            projected=lines[:, self.geometry.order.to(lines.device)],
        )

    def take(self, rows: Sequence[int]) -> Encoded:
        """The images in these rows; one may come several times."""
        taken = torch.tensor(rows, device=self.projected.device)
        return replace(
            self,
            lines=self.lines[taken],
            projected=self.projected[taken],
            deep=tuple(level[taken] for level in self.deep),
            index=tuple(self.index[row] for row in rows),
        )
