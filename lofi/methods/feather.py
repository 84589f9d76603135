"""FEATHER (arXiv 2412.13180): keep what the last prompt token attends to without positions, and a grid over the image.

Rotary embedding makes late tokens look more important than early ones, so the score leaves it out: at decoder layer
K - 1, the query of the last prompt token against the keys of the visual tokens, both before rotary embedding,
softmax over the visual tokens alone, mean over heads. At the first stage the t best tokens are united with every
`stride`-th row and column of the image's grid, counted from 0; at the later ones attention alone decides.

The published t is a fixed share of the tokens, and the size of the union follows from the image. Here the size k is
asked for, and t is the smallest number whose union with the grid has k tokens. Unions grow with t by one token or
none, so there always is one where k is at least the size of the grid, and for the published t and its own union's
size the sets are equal.

Deviations: for k below the size of the grid there is no such t; the k tokens of the grid with the largest attention
are kept. The first stage is the one where nothing has been dropped yet. The published code ranks in the model's
precision; lofi ranks in float32, lower index first.
"""

import torch
from torch import Tensor

from lofi.errors import UserError
from lofi.methods.context import Selection, best_first, top
from lofi.methods.decoder import DecoderView, finite


def feather(view: DecoderView, k: int, /, *, seed: int, stride: int = 3) -> Selection:
    """The best k visual tokens; where none has been dropped so far, united with the grid."""
    scores = scores_without_positions(view, view.layer - 1)
    if len(view.visual) < view.n:
        return Selection(top(scores, k))
    ranking, on_grid = best_first(scores), lattice(view.grid, stride).to(scores.device)
    if len(on_grid) != view.n:
        raise UserError(f"feather needs a grid, and {view.grid} does not hold the {view.n} tokens")
    if k < int(on_grid.sum()):
        return Selection(ranking[on_grid[ranking]][:k].sort().values)
    return Selection(united(ranking, on_grid, attended(ranking, on_grid, k)))


def scores_without_positions(view: DecoderView, layer: int) -> Tensor:
    """(v,) attention of the last prompt token without rotary embedding: softmax over the v tokens, mean over heads."""
    query = view.attention.queries(layer, rotary=False)[:, -1:]
    keys = view.attention.keys(layer, rotary=False)[:, view.visual]
    weights = (query @ keys.mT * view.attention.scale(layer)).softmax(-1)
    return finite(weights[:, 0].mean(0), layer)


def lattice(grid: tuple[int, int], stride: int) -> Tensor:
    """(h w,) bool: the tokens in rows and columns 0, stride, 2 stride, ... of an (h, w) grid."""
    marked = torch.zeros(grid, dtype=torch.bool)
    marked[::stride, ::stride] = True
    return marked.flatten()


def united(ranking: Tensor, on_grid: Tensor, t: int) -> Tensor:
    """Ascending: the first t of the ranking (n,) and the tokens on the grid."""
    chosen = on_grid.clone()
    chosen[ranking[:t]] = True
    return chosen.nonzero().squeeze(1)


def attended(ranking: Tensor, on_grid: Tensor, k: int) -> int:
    """The smallest t whose union with the grid has k tokens, for k from the size of the grid to n."""
    added = (~on_grid[ranking]).cumsum(0)  # by the first 1, 2, ... tokens of the ranking
    return 0 if k == int(on_grid.sum()) else 1 + int((on_grid.sum() + added < k).sum())
