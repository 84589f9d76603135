"""A batch of prompts as the decoder is about to read them: where their padding and their images are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lofi.errors import UserError
from lofi.models.columns import Columns
from lofi.models.encoded import EncodedImages


@dataclass(frozen=True)
class Prompts:
    """A batch of prompts before the decoder, and the images in them."""

    ids: Tensor  # (b, s)
    embeds: Tensor  # (b, s, d)
    real: Tensor  # (b, s) bool
    positions: Tensor  # (b, s) long
    images: EncodedImages
    rows: tuple[int, ...]  # of each image: the prompt that it stands in
    columns: tuple[Tensor, ...]  # of each image (n,) long: the columns of its tokens, tile after tile

    def projected(self, image: int) -> Tensor:
        """(n, d) what the LLM reads of an image."""
        return self.embeds[self.rows[image], self.columns[image]]

    def of_row(self, row: int) -> list[int]:
        """The images of a prompt."""
        return [image for image, owner in enumerate(self.rows) if owner == row]

    def visual(self, row: int) -> Tensor:
        """(v,) long: the columns of all visual tokens of a prompt, image after image."""
        found = [self.columns[image] for image in self.of_row(row)]
        return torch.cat(found) if found else torch.empty(0, dtype=torch.long, device=self.ids.device)

    def whole(self) -> Columns:
        """The columns of the unpruned prompts."""
        return Columns.of([self.visual(row) for row in range(len(self.ids))], self.real, self.positions)


def assigned(images: EncodedImages, visual: Tensor) -> tuple[tuple[int, ...], tuple[Tensor, ...]]:
    """Of each image its prompt and the columns of its tokens: images take the placeholders in their order."""
    places, size = visual.nonzero(), sum(geometry.size for geometry in images.geometries)
    if any(int(geometry.rows.max()) >= len(images.hidden) for geometry in images.geometries):
        size = len(images.hidden)  # tiles are counted in the prompts, which hold more than was encoded
    if len(places) != size:
        raise UserError(
            f"the prompts hold {len(places)} image tokens and the encoded images {size}; "
            "prune prompts with their own images, one beam each"
        )
    rows, columns, start = [], [], 0
    for geometry in images.geometries:
        own = places[start : start + geometry.size]
        start += geometry.size
        rows.append(int(own[0, 0]))
        columns.append(own[geometry.order.to(own.device), 1])
    return tuple(rows), tuple(columns)


def real_tokens(kwargs: Mapping[str, Any], ids: Tensor) -> Tensor:
    """(b, s) bool: no padding. A token that does not see itself is padding."""
    mask = kwargs.get("attention_mask")
    if isinstance(mask, dict):
        mask = next(iter(mask.values()))
    if mask is None:
        return torch.ones_like(ids, dtype=torch.bool)
    if mask.ndim == 2:
        return torch.as_tensor(mask, dtype=torch.bool)
    # prompts are padded on the left, so the last token sees all of its own
    last: Tensor = mask[:, 0, -1].expand(len(ids), -1)
    return last if last.dtype == torch.bool else last == 0


def positions_of(kwargs: Mapping[str, Any], ids: Tensor) -> Tensor:
    """(b, s) long: where the tokens stand, as the decoder is told or as it counts them itself."""
    positions = kwargs.get("position_ids")
    if positions is None or positions.ndim == 3:
        return torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    expanded: Tensor = positions.expand_as(ids)
    return expanded
