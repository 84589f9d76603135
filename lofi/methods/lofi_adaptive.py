"""LoFi adaptive: the fewest tokens by leverage that reach a target, so that easy images cost less.

Not from a paper. Tokens are ranked by leverage as `lofi` does, and each image keeps the smallest K >= 1 that meets one
target for all images:

    mass      the leverage of the K kept tokens over the rank, at least the target
    spectral  the energy of X outside the span of the K kept rows over the whole energy, at most the target

The budget k is the mean K that is wanted. `calibrate` finds the target for it on a set of images, halfway between two
steps of their mean K, so that rounding cannot carry an image across it. On other images the mean K differs from k by
what these images differ; the count of every image is stored. Where no K below n meets the target all tokens are kept,
and a matrix of zeros keeps one token.

The errors outside the span for all K come from one Cholesky factor of G = X X^T in the order of the ranking: with L L^T
= G, the rows after the first K leave the energy sum_{i, j > K} L_ij^2. Rows count at length 1 in the factor, and its
diagonal is raised by 1e-12: a row that depends on rows before it then adds nothing, instead of its rounding.

The rank rule `budget` is refused: it would need the K that it is to find. The trace holds the target beside what `lofi`
stores.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lofi import spectra
from lofi.errors import UserError
from lofi.leverage import Leverages
from lofi.methods.context import Selection, VisualContext, best_first
from lofi.methods.lofi import settle

# Measures that differ by less are equal: batches and devices round them differently.
STEP = 1e-9


@dataclass(frozen=True)
class Ranked:
    """The n tokens of an image by leverage, and how far the first K of them come."""

    rows: Tensor  # (n, n) G = X X^T
    rank: int
    leverage: Tensor  # (n,) float64
    order: Tensor  # (n,) long, largest leverage first
    progress: Tensor  # (n,) float64, never falling: for each K from 1 to n the mass, or the error with a minus sign


def lofi_adaptive(
    context: VisualContext,
    ks: Sequence[int],
    /,
    *,
    seed: int,
    measure: str = "mass",
    rank: str = "energy:0.9",
    targets: Mapping[int, float],
) -> list[Selection]:
    """For each mean count k of `ks`, the fewest tokens that meet `targets[k]`."""
    ranked = rank_tokens(context.projected, measure, rank)
    selections = []
    for k in ks:
        if k not in targets:
            raise ValueError(f"method 'lofi_adaptive' has no target for {k} tokens; calibrate it first")
        kept = ranked.order[: _fewest(ranked.progress, _signed(targets[k], measure))].sort().values
        trace = {
            "rank": float(ranked.rank),
            "kept_mass": float(ranked.leverage[kept].sum() / ranked.rank) if ranked.rank else float("nan"),
            "reconstruction_error": spectra.row_space_error(context.projected, kept, ranked.rows),
            "target": targets[k],
        }
        selections.append(Selection(kept, trace=trace))
    return selections


def calibrate(
    contexts: Iterable[VisualContext], ks: Sequence[int], /, *, measure: str = "mass", rank: str = "energy:0.9"
) -> dict[int, float]:
    """For each k the target whose mean count over the images is nearest to k; the cheaper one of two.

    The order of the images does not matter. Each image is looked at once, and only (n,) numbers of it are kept.
    """
    curves = [rank_tokens(context.projected, measure, rank).progress.cpu() for context in contexts]
    if not curves:
        raise ValueError("there is no image to calibrate on")
    steps = np.unique(torch.cat(curves).numpy())
    # The first keeps one token of every image, each other one lies between two neighbouring steps.
    targets = [*steps[:1].tolist(), *((steps[:-1] + steps[1:]) / 2).tolist()]
    return {k: _signed(_nearest(curves, targets, k), measure) for k in ks}


def rank_tokens(tokens: Tensor, measure: str, rank: str) -> Ranked:
    """The tokens (n, d) by leverage at the rank of a rule, and their progress under a measure."""
    if rank == "budget":
        raise UserError(
            "rank 'budget' of method 'lofi_adaptive' is not allowed: the count is not known before the rank; "
            "use fixed:<k>, energy:<share in (0, 1]> or erank"
        )
    rows = spectra.row_gram(tokens)
    top = Leverages(tokens, rows).at(rank, 0)
    r, leverage = top.rank, top.leverage
    order = best_first(settle(leverage))
    if measure == "mass":
        # Without energy there is nothing to keep: one token has all of it.
        progress = leverage[order].cumsum(0) / r if r else torch.ones_like(leverage)
    elif measure == "spectral":
        progress = -errors_outside(rows, order)
    else:
        raise ValueError(f"measure {measure!r} is neither mass nor spectral")
    return Ranked(rows, r, leverage, order, torch.round(progress / STEP) * STEP)


def errors_outside(rows: Tensor, order: Tensor) -> Tensor:
    """(n,) the share of the energy outside the span of the first K rows of an order (n,), for K from 1 to n.

    `rows` is G (n, n). It never rises with K; all of it is 0 where there is no energy.
    """
    g = rows[order][:, order]
    energies = g.diagonal()
    if not bool(energies.sum() > 0):
        return torch.zeros_like(energies)
    lengths = energies.sqrt().clamp_min(torch.finfo(torch.float64).tiny)
    unit = g / lengths / lengths.unsqueeze(1)
    factor = torch.linalg.cholesky(unit + spectra.RANK_TOLERANCE * torch.eye(len(g), dtype=g.dtype, device=g.device))
    columns = (factor * lengths.unsqueeze(1)).square().sum(0)
    left = columns.flip(0).cumsum(0).flip(0)  # of column K + 1 and all after it, one place too early
    return torch.cat([left[1:], left.new_zeros(1)]) / energies.sum()


def _signed(target: float, measure: str) -> float:
    """A target as a level of progress, or back: a smaller error is more progress."""
    return target if measure == "mass" else -target


def _fewest(progress: Tensor, level: float) -> int:
    """The smallest K from 1 to n whose progress reaches a level; n where none does."""
    return min(int((progress < level).sum()) + 1, len(progress))


def _nearest(curves: Sequence[Tensor], levels: Sequence[float], k: int) -> float:
    """The level, of ascending ones, whose mean count over the images is nearest to k; the lower of two."""

    def total(i: int) -> int:
        return sum(_fewest(curve, levels[i]) for curve in curves)

    wanted, low, high = k * len(curves), 0, len(levels)  # total(low) <= wanted, as one token each is the least
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if total(middle) <= wanted else (low, middle)
    if high < len(levels) and total(high) - wanted < wanted - total(low):
        return levels[high]
    return levels[low]
