"""Leverage: how much of each token lies in the top singular directions of a token matrix.

X (n, d) has singular vectors U_j on the left, and G = X X^T the eigenvectors U_j with the energies s_j^2. The leverage
of row i at rank r is the sum of U_ij^2 over j <= r, the diagonal of the projector on the top r directions.

On a CPU the directions come from LAPACK in its own three steps: a tridiagonal matrix T = Q^T G Q, its eigenvectors,
and these carried back by Q. The last step costs in proportion to the directions that are asked for; of n directions
never more than half are, since all n leverages of a token sum to 1. On a GPU, which does the first step badly, the
projector is made of matrix products (`lofi.projector`) where that converges.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.linalg import lapack
from torch import Tensor

from lofi import projector
from lofi.spectra import choose_rank, gram, numerical_rank

BLOCK = 64  # columns that LAPACK takes together in its workspace


@dataclass(frozen=True)
class Directions:
    """The singular directions of X (n, d), r of them, which is the numerical rank: all float64, largest first."""

    energy: Tensor  # (r,) s_j^2
    count: int  # n
    made: Callable[[int, int], Tensor]  # from, to: those left vectors (n, to - from), of any length

    def squares(self, first: int, last: int) -> Tensor:
        """(n, last - first) U_ij^2 of the directions from `first` up to `last`."""
        left = self.made(first, last)
        lengths: Tensor = torch.linalg.vector_norm(left, dim=0)
        # By their own norm, not by sqrt(energy): a small eigenvalue has lost digits that the norm of X v has kept.
        return (left / lengths).square()

    def leverage(self, rank: int) -> Tensor:
        """(n,) the leverage of each row at a rank."""
        if len(self.energy) == self.count and rank > self.count // 2:
            return (1.0 - self.squares(rank, self.count).sum(1)).clamp_min(0.0)
        return self.squares(0, rank).sum(1)

    def inside(self, rank: int) -> Tensor:
        """(n,) the energy of each row inside the top directions."""
        return self.squares(0, rank) @ self.energy[:rank]

    def outside(self, rank: int) -> Tensor:
        """(n,) the energy of each row outside the top directions."""
        return self.squares(rank, len(self.energy)) @ self.energy[rank:]

    def ridge(self, level: float) -> Tensor:
        """(n,) the ridge leverage of each row: the sum of U_ij^2 s_j^2 / (s_j^2 + level) over all directions."""
        return self.squares(0, len(self.energy)) @ (self.energy / (self.energy + level))


def directions(x: Tensor, rows: Tensor | None = None) -> Directions:
    """The singular directions of x (n, d), from the smaller Gram matrix; `rows` is `row_gram(x)` if it is there.

    Where d < n its eigenvectors V are projected back, X V. A matrix of zeros has no direction.
    """
    wide = len(x) <= x.shape[1]
    g = rows if wide and rows is not None else gram(x)
    if not bool(torch.isfinite(g.diagonal()).all()):  # sums of squares: what is in x is in them
        raise ValueError("tokens hold NaN or infinity: they have no spectrum")
    if wide:
        energy, made = eigenvectors(g)
    else:
        energy, right = eigenvectors(g)

        def made(first: int, last: int) -> Tensor:
            return x.double() @ right(first, last)

    return Directions(energy[: numerical_rank(energy)], len(x), made)


def eigenvectors(g: Tensor) -> tuple[Tensor, Callable[[int, int], Tensor]]:
    """Eigenvalues (m,) of a symmetric float64 matrix (m, m), largest first, and what makes some of their vectors."""
    if g.device.type != "cpu" or len(g) < 2:
        values, vectors = torch.linalg.eigh(g)
        return values.flip(0), lambda first, last: vectors.flip(1)[:, first:last]
    reflected, diagonal, beside, factors, _ = lapack.dsytrd(g.cpu().numpy(), lower=1, lwork=BLOCK * len(g))
    ascending, small, failed = lapack.dstevd(diagonal, beside)
    if failed:
        raise ArithmeticError("the eigenvalues of a Gram matrix did not converge")

    def carried(first: int, last: int) -> Tensor:
        columns = np.array(small[:, len(g) - last : len(g) - first], order="F")
        lower, _, _ = lapack.dormqr("L", "N", reflected[1:, :-1], factors, columns[1:], BLOCK * len(g))
        columns[1:] = lower
        return torch.from_numpy(columns).flip(1).to(g.device)

    return torch.from_numpy(ascending).flip(0).to(g.device), carried


@dataclass(frozen=True)
class Leading:
    """The n rows of X as the top directions see them."""

    rank: int
    leverage: Tensor  # (n,) they sum to the rank


class Leverages:
    """The leverage of the rows of one X (n, d) at the ranks of rules, each made once. `rows` is its Gram matrix."""

    def __init__(self, x: Tensor, rows: Tensor) -> None:
        self._x, self._rows = x, rows
        self._found: dict[str, Leading] = {}

    @cached_property
    def directions(self) -> Directions:
        """The directions themselves."""
        return directions(self._x, self._rows)

    def at(self, rule: str, k: int) -> Leading:
        """What the rank of a rule (see `choose_rank`) gives where k rows are kept."""
        rule = f"fixed:{k}" if rule == "budget" else rule
        if rule not in self._found:
            self._found[rule] = self._by_products(rule) or self._by_vectors(rule)
        return self._found[rule]

    def _by_products(self, rule: str) -> Leading | None:
        """The projector of a GPU; None on a CPU, and where it does not converge."""
        if self._rows.device.type == "cpu":
            return None
        top = projector.leading(self._rows, rule)
        return None if top is None else Leading(top.rank, top.matrix.diagonal())

    def _by_vectors(self, rule: str) -> Leading:
        found = self.directions
        rank = choose_rank(found.energy, rule, found.count, 0)
        return Leading(rank, found.leverage(rank))
