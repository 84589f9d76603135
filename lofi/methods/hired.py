"""HiRED (arXiv 2408.10945): the tokens with the most CLS attention, each tile within a budget of its own.

One image: the k tokens with the largest CLS attention in the layer that gives the features.

An image in tiles, m tokens each, the base tile (the whole image) first:

    base    min(int(k alpha), m) tokens
    tiles   the rest. The int(m (1 - alpha)) base tokens with the largest CLS attention in the *first* encoder layer
            are votes. Each tile has a region of the base tile, and gets the share of the rest that the region has
            of the votes, cut to a whole number, at most m.

Where borders were cut off the tiles, each holds what is left of it, and no budget is larger than its tile.

Inside the base and each tile the tokens with the largest CLS attention in the feature layer stay, in raster order.

`regions` says which region belongs to which tile: `strips`, as many runs of consecutive raster tokens as there are
tiles, or `spatial`, the part of the grid that the tile covers.

Deviations: the code takes strips, so that in a 2 x 2 layout the top right tile gets the budget of the second quarter
of the rows; lofi does the same by default, and `spatial` is lofi's own: it places regions by the layout alone and
knows nothing of padding in the tiles. The code's counts can sum to less than
the budget, because shares are cut to whole numbers and to m; lofi gives what is left to the tiles one token each, the
tile with the most votes first (the lower index on ties), round by round, passing over full tiles, and to the base
when all are full. Counts that sum to the budget stay the code's. Where m is no multiple of the number of tiles the
first strips are one token longer; where no token votes (alpha = 1) all tiles weigh the same. The code divides by zero
or fails there. The code chooses among all tokens of a tile and then loses those in the borders that the model cuts
off; lofi chooses among what the model leaves. Where the encoder has no CLS token, the attention that a token receives
stands in for it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from lofi.methods.allotment import allot
from lofi.methods.context import Selection, Tiles, VisualContext, best_first, prefixes, saliency, split_tiles, top

FIRST = 0  # the encoder layer whose attention votes


def strips(m: int, count: int) -> Tensor:
    """(m,) long: for each token the run it lies in, of `count` consecutive runs; the first are one longer."""
    runs = torch.arange(m).tensor_split(count)
    return torch.cat([torch.full_like(run, i) for i, run in enumerate(runs)])


def covered(grid: tuple[int, int], layout: tuple[int, int]) -> Tensor:
    """(h w,) long: for each token of the base grid the tile of the layout that lies over it."""
    (height, width), (rows, columns) = grid, layout
    row, column = torch.arange(height) * rows // height, torch.arange(width) * columns // width
    return (row[:, None] * columns + column).flatten()


def vote_shares(votes: Tensor, alpha: float, regions: Tensor, count: int) -> Tensor:
    """(count,) float32 the share of each region in the votes; equal where there are none.

    votes: (m,) attention of the base tokens; regions: (m,) the region of each.
    """
    voters = top(votes, int(len(votes) * (1 - alpha)))
    found = one_hot(regions.to(votes.device)[voters], count).sum(0)
    return found / found.sum() if len(voters) else torch.full((count,), 1 / count, device=votes.device)


def split_budget(k: int, alpha: float, m: int, room: int) -> tuple[int, int]:
    """How many of k tokens go to the base, of m tokens, and to the tiles together, which have `room` for so many.

    The base takes what the tiles cannot hold.
    """
    tiles = min(k - min(int(k * alpha), m), room)
    return k - tiles, tiles


def hired(
    context: VisualContext, ks: Sequence[int], /, *, seed: int, alpha: float = 0.5, regions: str = "strips"
) -> list[Selection]:
    """The k tokens with the largest CLS attention, with a budget for each tile."""
    if context.tiles is None or context.tiles.count == 1:
        return prefixes(best_first(saliency(context)), ks)
    parts = split_tiles(context)
    sizes, count = [len(part) for part in parts], len(parts) - 1
    m, rooms = sizes[0], sizes[1:]
    region = strips(m, count) if regions == "strips" else _covered(context, context.tiles, m)
    shares = vote_shares(saliency(parts[0], FIRST), alpha, region, count)
    rankings = [best_first(saliency(part)) for part in parts]
    selections = []
    for k in ks:
        base, rest = split_budget(k, alpha, m, sum(rooms))
        budgets = zip(rankings, [base, *allot(shares, rest, rooms)], strict=True)
        kept = [rank[:own].sort().values + sum(sizes[:i]) for i, (rank, own) in enumerate(budgets)]
        selections.append(Selection(torch.cat(kept)))
    return selections


def _covered(context: VisualContext, tiles: Tiles, m: int) -> Tensor:
    """The regions of `covered`, where the grid and the layout are those of the tokens."""
    (height, width), (rows, columns) = context.grid, tiles.layout
    if height * width != m or rows * columns != tiles.count - 1:
        raise ValueError(
            f"a grid of {height} x {width} and a layout of {rows} x {columns} do not fit {tiles.count - 1} tiles "
            f"of {m} tokens; use regions: strips"
        )
    return covered(context.grid, tiles.layout)
