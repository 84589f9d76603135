"""Gram matrices, spectra, IPR, ranks: the linear algebra of lofi, but for leverage (`lofi.leverage`, `lofi.projector`).

X is (n, d), one token per row, with singular values s_1 >= s_2 >= ... and Gram matrix G = X X^T, whose
eigenvalues are the energies s_j^2. No SVD is taken anywhere: the energies come from the smaller of X X^T and
X^T X, and the IPR needs nothing but the entries of that matrix.

Spectra run in float64. A Gram matrix squares the condition number: in float32 it would lose every
singular value below about 2e-4 of the largest, in float64 only those below 1e-8, which is finer than float32
tokens are themselves.

Rows of zeros change no statistic: they add zero rows and columns to G and no pair to `ipr_u`. So matrices of
unequal n are batched by padding with zero rows; `centre` leaves padding zero.
"""

import math

import numpy as np
import torch
from torch import Tensor

# An energy below this share of the largest is rounding, not rank: float64 leaves about n * 2e-16 of it, and
# float32 tokens hold no singular value below 1e-6 of the largest that means anything.
RANK_TOLERANCE = 1e-12
# Ten equal energies sum to 0.9 after nine of them, whatever the last bit of the sum says.
SHARE_TOLERANCE = 1e-12
# A row of length 1 that lies less than this outside the span of those before it may be their copy in all but rounding.
INDEPENDENT = 1e-3


def product(x: Tensor) -> Tensor:
    """X X^T in the type of x: (..., n, d) to (..., n, n)."""
    if x.device.type != "cpu":
        return x @ x.mT
    array = x.cpu().numpy()
    # NumPy sees that both factors are one matrix, and has half of the product computed.
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite shows in the result
        return torch.from_numpy(array @ array.swapaxes(-1, -2)).to(x.device)


def row_gram(x: Tensor) -> Tensor:
    """G = X X^T in float64: (..., n, d) to (..., n, n)."""
    return product(x.double())


def gram(x: Tensor) -> Tensor:
    """The smaller of X X^T and X^T X in float64: (..., n, d) to (..., m, m), m = min(n, d).

    Both have the same non-zero eigenvalues, trace and Frobenius norm.
    """
    return row_gram(x) if x.shape[-2] <= x.shape[-1] else row_gram(x.mT)


def centre(x: Tensor, mean: Tensor, mask: Tensor | None = None) -> Tensor:
    """Subtract from x (..., n, d) one mean token (..., d), in float64; rows outside `mask` (..., n) become zero.

    Centre the reduced run by the mean of the *full* token set: each subset's own mean makes `ipr_u` drift
    with n.
    """
    centred = x.double() - mean.double().unsqueeze(-2)
    return centred if mask is None else torch.where(mask.unsqueeze(-1), centred, 0.0)


def _unit(x: Tensor) -> Tensor:
    """X (..., n, d) over its Frobenius norm, in float64. Without energy, or with NaN or infinity, it becomes zero."""
    x = x.double()
    if 0 in x.shape[-2:]:
        x = x.new_zeros(*x.shape[:-2], 1, 1)  # no token is one token of padding
    total = x.square().sum((-2, -1), keepdim=True)
    defined = (total > 0) & total.isfinite()
    return torch.where(defined, x / torch.where(defined, total, 1.0).sqrt(), 0.0)


def _pairs(shares: Tensor) -> Tensor:
    """sum_{i != j} a_i a_j of row shares (..., n): (sum a)^2 - sum a^2 would cancel to nothing beside one huge row."""
    return 2.0 * (shares[..., 1:] * shares.cumsum(-1)[..., :-1]).sum(-1)


def _gram_sums(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The trace, sum_i G_ii^2 and sum_{i != j} G_ij^2 of G = X X^T: (..., n, d) to (...,) each, summed in float64.

    Products are those of float32 or of the type of x; of X over its norm where they would not fit into that.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    found = _sums(product(x))
    fits = (found[0] > 1e-30) & (found[0] < 1e30)
    return found if bool(fits.all()) else _sums(product(_unit(x).to(x.dtype)))


def _sums(g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    g = g.double()
    diagonal = g.diagonal(dim1=-2, dim2=-1)
    trace, own = diagonal.sum(-1), diagonal.square().sum(-1)
    diagonal.zero_()  # of this product alone: beside one huge row a difference of sums would cancel to nothing
    return trace, own, g.square_().sum((-2, -1))


def ipr(x: Tensor) -> Tensor:
    """Inverse participation ratio sum_j p_j^2 = ||G||_F^2 / (tr G)^2: (..., n, d) to (...,). NaN if X = 0.

    Products in the type of x, float32 at least: rounding does not pile up in a mean of squares.
    """
    trace, own, others = _gram_sums(x if x.shape[-2] <= x.shape[-1] else x.mT)
    return torch.where(trace > 0, (own + others) / trace.square(), math.nan)


def ipr_u(x: Tensor) -> Tensor:
    """Count-free IPR: (||G||_F^2 - sum_i G_ii^2) / ((tr G)^2 - sum_i G_ii^2), (..., n, d) to (...,).

    The ratio of the U-statistics of (x_i . x_j)^2 and ||x_i||^2 ||x_j||^2, so the count alone does not move
    it, as it moves the raw IPR. (Each of the two is unbiased under random subsets; their ratio is off by some
    percent for a few tokens of very unequal length.) NaN with fewer than two non-zero rows.
    """
    unit = _unit(x)
    energies = unit.square().sum(-1)  # of the rows
    if x.shape[-2] <= x.shape[-1]:
        trace, _, others = _gram_sums(x)
        others = others / trace.square()
    else:
        trace, own, beside = _gram_sums(x.mT)
        others = ((own + beside) / trace.square() - energies.square().sum(-1)).clamp_min(0.0)
    pairs = _pairs(energies)
    return torch.where(pairs > 0, others / pairs, math.nan)


def _energies(g: Tensor) -> Tensor:
    """Energy shares of a Gram matrix (..., m, m): (..., m), descending, rounding cut to 0, summing to 1."""
    energy = torch.linalg.eigvalsh(g).flip(-1)
    energy = torch.where(energy > RANK_TOLERANCE * energy[..., :1], energy, 0.0)
    return energy / energy.sum(-1, keepdim=True)


def _count_for(p: Tensor, share: float) -> Tensor:
    """The smallest k whose first k energy shares sum to `share`: (..., m) to (...,)."""
    short = p.cumsum(-1) < share - SHARE_TOLERANCE
    return (short.sum(-1) + 1).clamp_max(p.shape[-1])


def spectrum_statistics(x: Tensor) -> dict[str, Tensor]:
    """Every spectral statistic that the store holds, from one batched eigvalsh: (..., n, d) to (...,) each.

    With p_j = s_j^2 / sum s^2 and q_j = s_j / sum s: `entropy` is that of p, `entropy_norm` divides it by
    ln(rank) (NaN for rank 1), `erank_energy` and `erank_rv` are exp of the entropy of p and of q (Roy and
    Vetterli). All are NaN for a matrix without energy or with values that are not finite.
    """
    unit = _unit(x)
    return _statistics(gram(unit), unit.square().sum(-1))


def spectra_of(x: Tensor, mean: Tensor, mask: Tensor | None = None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """All statistics of the tokens x (..., n, d) as they are, and with `mean` (..., d) subtracted from each.

    Rows outside `mask` (..., n) do not count. Where there are fewer tokens than dimensions both come from one
    product: (x_i - m) . (x_j - m) = G_ij - x_i . m - x_j . m + m . m.
    """
    x = x.double() if mask is None else torch.where(mask.unsqueeze(-1), x, 0.0).double()
    if x.shape[-2] > x.shape[-1]:
        return spectrum_statistics(x), spectrum_statistics(centre(x, mean, mask))
    mean = mean.double()
    g = row_gram(x)
    along = x @ mean.unsqueeze(-1) - mean.square().sum(-1)[..., None, None] / 2  # (..., n, 1)
    centred = (g - along).sub_(along.mT)
    if mask is not None:
        centred = torch.where(mask.unsqueeze(-1) & mask.unsqueeze(-2), centred, 0.0)
    raw, moved = (each.diagonal(dim1=-2, dim2=-1).clamp_min(0.0) for each in (g, centred))
    return _statistics(g, raw), _statistics(centred, moved)


def _statistics(g: Tensor, energies: Tensor) -> dict[str, Tensor]:
    """All statistics from a Gram matrix (..., m, m), which is used up, and its rows' energies (..., n)."""
    total = energies.sum(-1)
    defined = (total > 0) & total.isfinite()  # no entry is greater than the energies of its rows
    if not bool(defined.all()):
        g = torch.where(defined[..., None, None], g, 0.0)
    total = torch.where(defined, total, 1.0)
    shares = energies / total.unsqueeze(-1)
    p = _energies(g)
    _, own, others = (each / total.square() for each in _sums(g))
    whole = own + others
    if g.shape[-1] != shares.shape[-1]:  # X^T X has no pairs of rows
        others = (whole - shares.square().sum(-1)).clamp_min(0.0)
    pairs = _pairs(shares)
    roots = p.sqrt()
    q = roots / roots.sum(-1, keepdim=True)
    entropy = torch.special.entr(p).sum(-1)
    statistics = {
        "ipr": whole,
        "ipr_u": torch.where(pairs > 0, others / pairs, math.nan),
        "ipr_l1": q.square().sum(-1),
        "entropy": entropy,
        "entropy_norm": entropy / (p > 0).sum(-1).double().log(),
        "erank_energy": entropy.exp(),
        "erank_rv": torch.special.entr(q).sum(-1).exp(),
        "stable_rank": 1.0 / p[..., 0],
        "top1_energy": p[..., 0],
        "k90": _count_for(p, 0.90).double(),
        "k95": _count_for(p, 0.95).double(),
        "k99": _count_for(p, 0.99).double(),
        "max_row_share": shares.amax(-1),
    }
    return {name: torch.where(defined, value, math.nan) for name, value in statistics.items()}


def numerical_rank(energy: Tensor) -> int:
    """How many of the energies (r,), descending, are more than rounding."""
    return int((energy > RANK_TOLERANCE * energy[:1].clamp_min(0.0)).sum())


def choose_rank(energy: Tensor, rule: str, n: int, k: int) -> int:
    """The rank that leverage uses, from the energies (r,), descending, of n tokens of which k are kept.

    `fixed:8`; `energy:0.9`, the smallest rank with that share of the energy; `budget`, the rank k; `erank`,
    the rounded participation ratio 1 / IPR. Always 1 <= rank <= min(n - 1, numerical rank): at rank n every
    token has leverage exactly 1. Only a matrix without energy has rank 0.
    """
    limit = numerical_rank(energy)
    if limit == 0:
        return 0
    name, _, value = rule.partition(":")
    p = energy[:limit] / energy[:limit].sum()
    if name == "fixed":
        rank = int(value)
    elif name == "energy":
        rank = int(_count_for(p, float(value)))
    elif rule == "budget":
        rank = k
    elif rule == "erank":
        rank = round(1.0 / float(p.square().sum()))
    else:
        raise ValueError(f"rank rule {rule!r} is none of fixed:<k>, energy:<share>, budget, erank")
    return max(1, min(rank, n - 1, limit))


def _whitened(across: Tensor, among: Tensor) -> Tensor:
    """Coordinates of n rows in an orthonormal basis of the span of k: (n, k) and (k, k) products to (n, r).

    By Cholesky, at an eighth of the cost, where every one of the k rows clearly adds a direction of its own.
    """
    factor, failed = torch.linalg.cholesky_ex(among)
    if not bool(failed) and bool(factor.diagonal().min() > INDEPENDENT):
        whitened: Tensor = torch.linalg.solve_triangular(factor, across.mT, upper=False).mT
        return whitened
    spectrum, basis = torch.linalg.eigh(among)
    alive = spectrum > RANK_TOLERANCE * spectrum[-1]
    return torch.matmul(across, basis[:, alive] / spectrum[alive].sqrt())


def row_space_error(x: Tensor, kept: Tensor, rows: Tensor | None = None) -> float:
    """||X - X X_S^+ X_S||_F^2 / ||X||_F^2: the energy of x (n, d) outside the span of its rows `kept` (k,).

    Works on G alone, so d does not matter once `rows` = `row_gram(x)` is there. The kept rows are scaled to
    length 1 first: it leaves their span as it is, and a short row then counts as much as a long one in the
    numerical rank. Kept rows may be dependent or zero. NaN where x has no energy.
    """
    g = row_gram(x) if rows is None else rows
    energies = g.diagonal()
    total = energies.sum()
    if not bool(total > 0):
        return math.nan
    lengths = energies[kept].sqrt().clamp_min(torch.finfo(torch.float64).tiny)
    across = g[:, kept] / lengths
    inside = _whitened(across, across[kept] / lengths.unsqueeze(1)).square().sum(1)
    # A kept row lies in the span by definition: its rounding is no error.
    outside = (energies - inside).clamp_min(0.0).index_fill(0, kept, 0.0)
    return float(outside.sum() / total)
