"""VScan (arXiv 2505.22654), first stage: tokens picked window by window, then globally; the others merge into them.

    local    k // 2 tokens, spread over windows of the grid, by the attention of an early encoder layer, the sixth of
             24; in an encoder of another depth the layer at the same share of the way
    global   the others up to k: by the attention of the layer that gives the features, local ones left out
    merging  every dropped token joins the kept token it has the largest cosine with, among the projected tokens; a
             kept token becomes the plain mean of itself and those that joined. Rows stay in raster order.

The authors publish two forms of the local step, and the encoder says which one runs:

    with a CLS token     CLS attention; 4 x 4 windows; each keeps its (k // 2) // 16 best tokens
    without a CLS token  attention received, mean over heads and queries; windows of 4 x 4 tokens, what is over
                         belonging to the last of a row or column; the k // 2 best tokens, at most
                         ceil((k // 2) / windows) from each window

The second stage, inside the language model, is `vscan_llm`.

Deviations: with a CLS token the code picks k - k // 2 global tokens even where the windows gave fewer than k // 2,
and so keeps 44 for k = 56; lofi fills up to k with global tokens, in the same order. The code knows one grid, 24 x 24,
for that form; in others a window has floor(side / 4) rows or columns, at least one, and the last takes what is over.
Without a CLS token the code stops where small windows cannot give k // 2; lofi takes more global tokens then. The
code leaves local tokens out of the global step by setting their scores to 0; lofi leaves them out for certain.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from lofi.methods.context import Selection, VisualContext, best_first, complement, encoder_layer, saliency
from lofi.methods.similarity import cosines

LOCAL_LAYER = 5  # of the 24 of CLIP-L, from 0
WINDOWS = 4  # windows along a side, for encoders with a CLS token
WINDOW = 4  # tokens along a window's side, for encoders without


def window_map(grid: tuple[int, int], by_cls: bool) -> Tensor:
    """(h w,) long: the window that each token of the grid lies in, counted in raster order."""
    rows, columns = (_along(side, by_cls) for side in grid)
    return (rows[:, None] * (int(columns[-1]) + 1) + columns).flatten()


def _along(side: int, by_cls: bool) -> Tensor:
    """(side,) long: the window along one side of the grid; the last takes what is over."""
    count = min(WINDOWS, side) if by_cls else max(1, side // WINDOW)
    size = side // count if by_cls else WINDOW
    return (torch.arange(side) // size).clamp(max=count - 1)


def turns(ranking: Tensor, windows: Tensor) -> Tensor:
    """(n,) long: for each token of the ranking (n,) how many of its window come before it."""
    window = windows[ranking]
    seen = one_hot(window).cumsum(0)
    return seen.gather(1, window[:, None]).squeeze(1) - 1


def local_picks(ranking: Tensor, turn: Tensor, half: int, quota: int) -> Tensor:
    """The first `half` of the ranking (n,), no more than `quota` from one window; `turn` is that of `turns`."""
    return ranking[turn < quota][:half]


def global_picks(ranking: Tensor, local: Tensor, count: int) -> Tensor:
    """The first `count` of the ranking (n,) that are not among the local picks."""
    return ranking[~torch.isin(ranking, local)][:count]


def merge(tokens: Tensor, cosine: Tensor, kept: Tensor) -> Tensor:
    """(k, d) float32: every token (n, d) outside `kept` (k,) averaged into its nearest kept one; cosine (n, n).

    A product with the 0/1 matrix of who joins whom, because adding by index has no fixed order on a GPU.
    """
    rows, dropped = tokens.float(), complement(kept, len(tokens))
    joined = one_hot(cosine[dropped][:, kept].argmax(1), len(kept)).float()
    return (rows[kept] + joined.T @ rows[dropped]) / (1.0 + joined.sum(0))[:, None]


def vscan(context: VisualContext, ks: Sequence[int], /, *, seed: int) -> list[Selection]:
    """Local and global picks with the dropped tokens merged in; rankings and cosines serve all of `ks`."""
    attention, projected = context.attention, context.projected
    if attention is None:
        raise ValueError("this model's encoder gives no attention")
    by_cls = attention.n_extra > 0
    early = best_first(saliency(context, encoder_layer(LOCAL_LAYER, attention.depth)))
    late = best_first(saliency(context))
    windows = window_map(context.grid, by_cls).to(early.device)
    turn, count = turns(early, windows), int(windows[-1]) + 1
    cosine = cosines(projected)
    selections = []
    for k in ks:
        half = k // 2
        local = local_picks(early, turn, half, half // count if by_cls else -(-half // count))
        kept = torch.cat([local, global_picks(late, local, k - len(local))]).sort().values
        selections.append(Selection(kept, merge(projected, cosine, kept).to(projected.dtype)))
    return selections
