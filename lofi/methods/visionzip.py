"""VisionZip (arXiv 2412.04467): keep the tokens with the most attention, and merge the rest into a few.

Of k rows, c = round(10 k / 64) are contextual and d = k - c dominant, the authors' 54 + 10 for 64. The CLS token is
the first of the dominant ones; the other d - 1 are the tokens with the largest CLS attention in the layer that the
projector reads. Of the tokens that remain, c evenly spaced ones are targets: every (rest // c)-th from the first.
Every other one joins the target whose key has the highest cosine with its own (keys of the same layer, averaged
over heads). A contextual row is its target plus the mean of the tokens that joined it. The rows are merged before
the projector and read in the order CLS, dominant tokens as in the image, contextual rows in the order of their
targets. The CLS row stands at place 0.

In an any-resolution image each tile gets an equal part of the k rows, the first tiles one more where the parts are
not equal. The base tile (the whole image) comes first, in the order above. The rows of all other tiles follow
together: all dominant ones in the raster order of the image that the tiles form, then all CLS rows, then all
contextual rows. Where borders were cut off the tiles, which then differ in size, the rows follow tile after tile.

`cls`: `auto` keeps the CLS row where the encoder has a CLS token, `keep` refuses an encoder without one, `drop` takes
d image tokens instead, as `auto` does without CLS token.

Deviations: the paper speaks of averaging; the authors' code adds the mean of the joined tokens to the target, which
about doubles its length, and lofi does as the code does. The split of k follows the authors' only published
setting, since they give no rule for others. For k below 4 it leaves no contextual row, where the code would divide
by zero; for k = 1 only the CLS row is left. No LLaVA projector was trained on CLS rows: hence `cls: drop`. Encoders
without a CLS token rank by the attention that a token receives. A key of length zero has cosine 0 with all others,
where the authors' division gives NaN. The authors give every tile the same numbers of rows; in lofi a tile whose part
is all of its tokens keeps them as they are, without CLS and contextual rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lofi.errors import UserError
from lofi.methods.context import (
    EncoderAttention,
    Selection,
    Tiles,
    VisualContext,
    best_first,
    complement,
    portions,
    saliency,
    split_tiles,
)
from lofi.methods.similarity import unit_rows
from lofi.methods.tome import group_sums, head_mean

CONTEXTUAL, OF = 10, 64  # the authors' setting: 10 contextual rows of 64


def contextual_count(k: int) -> int:
    """How many of k rows are contextual."""
    return round(k * CONTEXTUAL / OF)


def targets_among(rest: Tensor, count: int) -> Tensor:
    """(count,) evenly spaced ones of the tokens `rest` (m,), m >= count."""
    return rest[:: max(1, len(rest) // max(1, count))][:count]


def nearest_target(unit: Tensor, others: Tensor, targets: Tensor) -> Tensor:
    """(m,) for each of the `others` (m,) the position in `targets` (c,) of highest cosine, the first of equal ones.

    unit: (n, d) keys of length 1.
    """
    return (unit[others] @ unit[targets].T).argmax(1)


def contextual_rows(hidden: Tensor, unit: Tensor, rest: Tensor, targets: Tensor) -> Tensor:
    """(c, dv) float32: each target (c,) plus the mean of those tokens of `rest` (m,) that join it."""
    if not len(targets):
        return hidden.new_zeros(0, hidden.shape[1], dtype=torch.float32)
    others = rest[torch.isin(rest, targets, invert=True)]
    joined = nearest_target(unit, others, targets)
    sizes = torch.bincount(joined, minlength=len(targets)).clamp_min(1)
    return hidden[targets].float() + group_sums(hidden[others], joined, len(targets)) / sizes[:, None]


@dataclass(frozen=True)
class Tile:
    """What all selections of one tile of n tokens share; an image without tiles is one."""

    context: VisualContext
    ranking: Tensor  # (n,) long, largest attention first
    unit: Tensor  # (n, dv / heads) mean keys of length 1
    head: Tensor  # (1, dv) the CLS row, or (0, dv)

    def __len__(self) -> int:
        return len(self.context)


@dataclass(frozen=True)
class Zipped:
    """The r rows of one tile: first the CLS row or none, then the dominant tokens, then the contextual rows."""

    embeds: Tensor  # (r, d)
    cls_rows: int
    dominant: Tensor  # (m,) long, ascending
    targets: Tensor  # (c,) long, ascending

    def selection(self) -> Selection:
        """The rows as the selection of their tile."""
        places = torch.cat([self.dominant.new_zeros(self.cls_rows), self.dominant, self.targets])
        return Selection(torch.cat([self.dominant, self.targets]).sort().values, self.embeds, places)


def visionzip(context: VisualContext, ks: Sequence[int], /, *, seed: int, cls: str = "auto") -> list[Selection]:
    """CLS, dominant and contextual rows; the rankings and the keys are made once for all of `ks`."""
    tiles = [_tile(part, cls) for part in split_tiles(context)]
    found = [[_zip(tile, own) for tile, own in portions(tiles, k)] for k in ks]
    if context.tiles is None:
        return [only.selection() for [only] in found]
    return [_packed(context, context.tiles, zipped) for zipped in found]


def _tile(context: VisualContext, cls: str) -> Tile:
    """Ranking, keys and CLS row of one tile."""
    attention = context.attention
    if attention is None:
        raise ValueError("this model's encoder gives no attention")
    extra = context.extra if attention.n_extra == 1 else None
    if cls == "keep" and extra is None:
        raise UserError(
            "visionzip's cls: keep needs a CLS token, which the vision encoder lacks; use cls: auto or drop"
        )
    head = context.hidden[:0] if cls == "drop" or extra is None else extra
    return Tile(context, best_first(saliency(context)), unit_rows(_metric(context, attention)), head)


def _metric(context: VisualContext, attention: EncoderAttention) -> Tensor:
    """(n, dv / heads) the mean key of each patch."""
    return head_mean(attention.keys(context.feature_layer)[-len(context) :], attention.heads)


def _zip(tile: Tile, k: int) -> Zipped:
    """The k rows of a tile; all of it as it is where k is all."""
    context, n = tile.context, len(tile.context)
    if k == n:
        return Zipped(context.projected, 0, torch.arange(n, device=context.projected.device), tile.ranking[:0])
    count = contextual_count(k)
    dominant = tile.ranking[: k - count - len(tile.head)].sort().values
    rest = complement(dominant, n)
    targets = targets_among(rest, count)
    contextual = contextual_rows(context.hidden, tile.unit, rest, targets)
    rows = torch.cat([tile.head, context.hidden[dominant], contextual.to(context.hidden.dtype)])
    return Zipped(context.project(rows), len(tile.head), dominant, targets)


def _packed(context: VisualContext, tiles: Tiles, zipped: Sequence[Zipped]) -> Selection:
    """The rows of all tiles: as the authors order them, or tile after tile where their sizes differ."""
    sizes = tiles.sizes(len(context))
    placed = [tile.selection().at(sum(sizes[:i])) for i, tile in enumerate(zipped)]
    order = torch.arange(sum(tile.count for tile in placed), device=placed[0].kept.device)
    if tiles.grids is None:
        order = _authors_order(context, tiles, zipped, order)
    return Selection(
        torch.cat([selection.kept for selection in placed]),
        torch.cat([tile.embeds for tile in zipped])[order],
        torch.cat([selection.rows for selection in placed])[order],
        {"tiles": float(len(zipped))},
    )


def _authors_order(context: VisualContext, tiles: Tiles, zipped: Sequence[Zipped], order: Tensor) -> Tensor:
    """(r,) `order` (r,) with the rows of the tiles behind the base by `tile_order`."""
    size, (height, width), (rows, columns) = len(context) // tiles.count, context.grid, tiles.layout
    if height * width != size or rows * columns != tiles.count - 1:
        raise ValueError(
            f"a grid of {height} x {width} and a layout of {rows} x {columns} do not fit {tiles.count - 1} tiles "
            f"of {size} tokens: their rows have no order"
        )
    base = len(zipped[0].embeds)
    if len(zipped) == 1:
        return order
    return torch.cat([order[:base], base + tile_order(zipped[1:], context.grid, tiles.layout)])


def tile_order(zipped: Sequence[Zipped], grid: tuple[int, int], layout: tuple[int, int]) -> Tensor:
    """(r,) the authors' order of the r rows of tiles that follow one another, as indices of those rows.

    All dominant rows come first, in the raster order of the image that the layout[0] x layout[1] tiles of
    grid[0] x grid[1] tokens form; then all CLS rows; then all contextual rows.
    """
    (height, width), across = grid, layout[1]
    front, at, cls, contextual, start = [], [], [], [], 0
    for i, tile in enumerate(zipped):
        index = torch.arange(start, start + len(tile.embeds), device=tile.dominant.device)
        after = tile.cls_rows + len(tile.dominant)
        cls.append(index[: tile.cls_rows])
        front.append(index[tile.cls_rows : after])
        contextual.append(index[after:])
        y, x = i // across * height + tile.dominant // width, i % across * width + tile.dominant % width
        at.append(y * across * width + x)
        start += len(index)
    return torch.cat([torch.cat(front)[torch.cat(at).argsort()], *cls, *contextual])
