"""HoloV (arXiv 2510.02912): the most attended tokens of every run of the image, each run with a budget of its own.

The n tokens are cut into `crops` runs of consecutive raster tokens, the first n mod crops of them one longer. With a
the CLS attention of the feature layer, A = 1000 a, and S the cosines of the projected tokens of one run of m tokens,
its diagonal zero:

    spread v_i   sum over j of (S_ij - sum_j S_ij / (m - 1))^2 / (m - 1), the zero on the diagonal included
    score        the mean over the run of A + 0.09 v mean(A) / (mean(v) + 1e-6)
    budget       k times the run's share of all scores, cut to a whole number; what is left goes one by one to the
                 runs with the largest share

A run keeps its most attended tokens. The spread is meant to give runs of varied content more of them, but it is
scaled to the attention inside each run and then averaged there, where it cancels: a score is mean(A) times
1 + 0.09 mean(v) / (mean(v) + 1e-6). So budgets follow the mean attention of the runs, as if no similarity had been
measured, unless mean(v) is as small as 1e-6; in the authors' code and here alike. A run of one token has no spread,
and its score is a.

All tiles of an any-resolution image are one sequence.

`order` says how the language model reads them: run by run and inside a run by falling attention, as in the authors'
code (a run that is kept whole stays in raster order), or all in `raster` order. Only the order of rows differs.

Deviations: the code loses what a run's budget has beyond its tokens, and fills the gap with rows of zeros; lofi gives
that surplus to the other runs, one token each, the largest share first, round by round, so that k real tokens are
read. Budgets that fit into their runs are the code's. Runs are parts of the raster order, as in the code, not crops
in two dimensions. The code's Qwen form sets `crops` by the budget; lofi does not. With fewer tokens than `crops`
every token is a run. Where the encoder has no CLS token, the attention that a token receives stands in for it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lofi.methods.allotment import allot
from lofi.methods.context import Selection, VisualContext, best_first, saliency

ATTENTION_SCALE = 1000.0
SPREAD_SHARE = 0.09  # weight of the spread beside the attention
TINY = 1e-6


def spreads(tokens: Tensor) -> Tensor:
    """(m,) float32: how much the cosines of each of m > 1 tokens (m, d) with the others differ."""
    x = tokens.float()
    unit = x / (x.norm(dim=1, keepdim=True) + TINY)
    cosine = (unit @ unit.T).fill_diagonal_(0.0)
    mean = cosine.sum(1, keepdim=True) / (len(x) - 1)
    spread: Tensor = (cosine - mean).square().sum(1) / (len(x) - 1)
    return spread


def run_score(tokens: Tensor, attention: Tensor) -> Tensor:
    """() float32 score of one run: tokens (m, d), attention (m,)."""
    if len(tokens) == 1:
        return attention[0]  # not scaled by 1000: so in the published code, though other runs are
    spread, scaled = spreads(tokens), ATTENTION_SCALE * attention
    level = scaled.abs().mean() / (spread.abs().mean() + TINY)
    score: Tensor = (scaled + SPREAD_SHARE * spread * level).mean()
    return score


def holov(
    context: VisualContext, ks: Sequence[int], /, *, seed: int, crops: int = 16, order: str = "attention"
) -> list[Selection]:
    """The most attended tokens of every run; one score for each run serves all of `ks`."""
    attention = saliency(context)
    if not bool(torch.isfinite(context.projected).all()):
        raise ValueError("tokens hold NaN or infinity: they have no directions")
    runs = torch.arange(len(context), device=attention.device).tensor_split(min(crops, len(context)))
    scores = torch.stack([run_score(context.projected[run], attention[run]) for run in runs])
    weights = scores / (scores.sum() + TINY)
    rankings = [run[best_first(attention[run])] for run in runs]
    selections = []
    for k in ks:
        budgets = allot(weights, k, [len(run) for run in runs])
        rows = torch.cat(
            [
                run if own == len(run) else ranking[:own]
                for run, ranking, own in zip(runs, rankings, budgets, strict=True)
            ]
        )
        kept = rows.sort().values
        ordered = order == "attention"
        selections.append(Selection(kept, context.projected[rows], rows) if ordered else Selection(kept))
    return selections
