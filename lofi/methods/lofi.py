"""LoFi (arXiv 2503.06794, versions 1 and 2): keep the tokens with the largest leverage in the token matrix.

X (n, d) is the matrix of projected tokens, as the language model would read them: *not* centred. With
X = U S V^T and G = X X^T, the leverage of token i at rank r is l_i = sum_{j <= r} U_ij^2; the n leverages sum
to r. The paper's rule for r is not known, so it is a parameter (see `lofi.spectra.choose_rank`).

Every score of the family is sum_j w_j U_ij^2, with weights w on the energies s_j^2:

    leverage   1 for j <= r
    ridge      s_j^2 / (s_j^2 + lambda) for all j; lambda is `ridge`, for 0 the mean eigenvalue tr(G) / n
    energy     s_j^2 for j <= r: the squared length of the part inside the top-r subspace
    residual   s_j^2 for j > r: the squared length of the part outside it
    sampled    leverage, as the odds of a draw without replacement, instead of as a ranking

The trace holds the rank, the leverage of the kept tokens over the rank (near 1, their span comes near the
best rank-r error: Papailiopoulos et al. 2014), and the share of the energy outside that span. Both shares are
NaN for a matrix of zeros, where all scores are ties and the first k tokens are kept.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lofi import spectra
from lofi.leverage import Leading, Leverages
from lofi.methods.context import Selection, VisualContext, best_first
from lofi.methods.random import uniforms

# Scores that agree to this share of the largest are ties, and go to the lower index. Beyond it the order of
# equal tokens would be the rounding of the linear algebra library, not a property of the image.
TIE = 1e-11


def lofi(
    context: VisualContext,
    ks: Sequence[int],
    /,
    *,
    seed: int,
    score: str = "leverage",
    rank: str = "energy:0.9",
    ridge: float = 0.0,
) -> list[Selection]:
    """The k tokens with the largest score; one decomposition serves all of `ks`."""
    tokens, draws = context.projected, None
    if score == "sampled":
        draws = uniforms(context.image_key, len(tokens), seed=seed, stream=1, device=tokens.device)
    return by_leverage(tokens, ks, score=score, rank=rank, ridge=ridge, draws=draws)


def by_leverage(
    tokens: Tensor, ks: Sequence[int], *, score: str, rank: str, ridge: float, draws: Tensor | None
) -> list[Selection]:
    """One selection per k of the tokens (n, d): the largest scores, or with `draws` (n,) in (0, 1) a draw by them."""
    rows = spectra.row_gram(tokens)
    leverages = Leverages(tokens, rows)
    selections = []
    for k in ks:
        top = leverages.at(rank, k)
        scores = settle(scored(leverages, top, score, ridge))
        ranking = best_first(scores if draws is None else gumbel(scores, draws))
        kept = ranking[:k].sort().values
        trace = {
            "rank": float(top.rank),
            "kept_mass": float(top.leverage[kept].sum() / top.rank) if top.rank else float("nan"),
            "reconstruction_error": spectra.row_space_error(tokens, kept, rows),
        }
        selections.append(Selection(kept, trace=trace))
    return selections


def scored(leverages: Leverages, top: Leading, score: str, ridge: float) -> Tensor:
    """(n,) the scores of one member of the family at the rank of `top`."""
    if score in ("leverage", "sampled"):
        return top.leverage
    found = leverages.directions
    if score == "ridge":
        return found.ridge(ridge or float(found.energy.sum()) / found.count)
    if score == "energy":
        return found.inside(top.rank)
    if score == "residual":
        return found.outside(top.rank)
    raise ValueError(f"score {score!r} is none of leverage, ridge, energy, residual, sampled")


def settle(scores: Tensor) -> Tensor:
    """Scores (n,) >= 0 in whole steps of `TIE` times the largest: what differs by rounding alone is equal."""
    peak = float(scores.max())
    return torch.round(scores / (peak * TIE)) if peak > 0 else torch.zeros_like(scores)


def gumbel(odds: Tensor, draws: Tensor) -> Tensor:
    """Keys (n,) whose largest k are a draw of k without replacement with those odds; zero odds come last."""
    return odds.clamp_min(torch.finfo(torch.float64).tiny).log() - (-draws.log()).log()
