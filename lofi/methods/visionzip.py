"""VisionZip (arXiv 2412.04467): keep the tokens with the most attention, and merge the rest into a few.

Of k rows, c = round(10 k / 64) are contextual and d = k - c dominant, the authors' 54 + 10 for 64. The CLS token is
the first of the dominant ones; the other d - 1 are the tokens with the largest CLS attention in the layer that the
projector reads. Of the tokens that remain, c evenly spaced ones are targets: every (rest // c)-th from the first.
Every other one joins the target whose key has the highest cosine with its own (keys of the same layer, averaged
over heads). A contextual row is its target plus the mean of the tokens that joined it. The rows are merged before
the projector and read in the order CLS, dominant tokens as in the image, contextual rows in the order of their
targets. The CLS row stands at place 0.

Deviations: the paper speaks of averaging; the authors' code adds the mean of the joined tokens to the target, which
about doubles its length, and lofi does as the code does. The split of k follows the authors' only published
setting, since they give no rule for others. For k below 4 it leaves no contextual row, where the code would divide
by zero; for k = 1 only the CLS row is left. No LLaVA projector was trained on CLS rows: `cls: drop` takes d image
tokens instead. So does `auto` for encoders without a CLS token, which rank by the attention that a token receives. A
key of length zero has cosine 0 with all others, where the authors' division gives NaN. For any-resolution images
the authors read the tiles after the first as all dominant rows in the raster order of the whole image, then all CLS
rows, then all contextual rows; lofi reads tile after tile (`tile_order` is their order).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lofi.methods.context import EncoderAttention, Selection, VisualContext, best_first, complement, saliency
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


def visionzip(context: VisualContext, ks: Sequence[int], /, *, seed: int, cls: str = "auto") -> list[Selection]:
    """CLS, dominant and contextual rows; the ranking and the keys are made once for all of `ks`."""
    attention = context.attention
    if attention is None:
        raise ValueError("this model's encoder gives no attention")
    ranking = best_first(saliency(context))
    unit = unit_rows(_metric(context, attention))
    head = context.hidden[:0]
    if cls == "auto" and context.extra is not None and attention.n_extra == 1:
        head = context.extra
    return [_zip(context, ranking, unit, head, k) for k in ks]


def _metric(context: VisualContext, attention: EncoderAttention) -> Tensor:
    """(n, dv / heads) the mean key of each patch."""
    return head_mean(attention.keys(context.feature_layer)[-len(context) :], attention.heads)


def _zip(context: VisualContext, ranking: Tensor, unit: Tensor, head: Tensor, k: int) -> Selection:
    """The k rows, the first of which are those of `head`: the CLS row or none."""
    count = contextual_count(k)
    dominant = ranking[: k - count - len(head)].sort().values
    rest = complement(dominant, len(context))
    targets = targets_among(rest, count)
    contextual = contextual_rows(context.hidden, unit, rest, targets)
    rows = torch.cat([head, context.hidden[dominant], contextual.to(context.hidden.dtype)])
    places = torch.cat([dominant.new_zeros(len(head)), dominant, targets])
    return Selection(torch.cat([dominant, targets]).sort().values, context.project(rows), places)


def tile_order(
    dominant: Sequence[Tensor], rows: Sequence[int], *, cls_rows: int, grid: tuple[int, int], layout: tuple[int, int]
) -> Tensor:
    """(r,) the authors' order of the r rows of tiles that follow one another, as indices of those rows.

    Every tile has rows[i] of them: `cls_rows` (0 or 1), then the dominant tokens at the raster places dominant[i],
    then the contextual rows. All dominant rows come first, in the raster order of the image that the
    layout[0] x layout[1] tiles of grid[0] x grid[1] tokens form; then all CLS rows; then all contextual rows.
    """
    (height, width), across = grid, layout[1]
    front, at, cls, contextual, start = [], [], [], [], 0
    for i, (places, count) in enumerate(zip(dominant, rows, strict=True)):
        index = torch.arange(start, start + count, device=places.device)
        cls.append(index[:cls_rows])
        front.append(index[cls_rows : cls_rows + len(places)])
        contextual.append(index[cls_rows + len(places) :])
        y, x = i // across * height + places // width, i % across * width + places % width
        at.append(y * across * width + x)
        start += count
    return torch.cat([torch.cat(front)[torch.cat(at).argsort()], *cls, *contextual])
