"""The projector on the top eigenvectors of a Gram matrix, by matrix products alone: what a GPU does best.

For a level c between two eigenvalues, sign(G - c I) is 1 on the eigenvectors above c and -1 on the others, so
(I + sign(G - c I)) / 2 is the projector P on the r above. The sign comes from Newton-Schulz iterations,
S -> (3 S - S^3) / 2, which drive every eigenvalue of S to 1 or -1. While small ones are expected S is stretched before
each step, which makes them grow 2.6 instead of 1.5 times (Chen and Chow 2014). The trace of P is the rank, the trace
of P G the energy inside, so the level is found by trying: between a level too low and one too high, in turns halfway
and where a line between the two meets the target.

Every result is checked: S^2 must be the identity, the rank or the energy those of the rule. Where two eigenvalues are
too near to be told apart, or the level falls so low that rounding is no longer far, there is no result.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lofi.spectra import SHARE_TOLERANCE

EXPECTED_GAP = 1e-4  # distance of the eigenvalues from the level, over the largest: smaller ones take longer
STEPS = 40  # at most, for one level: the last ones tell eigenvalues apart that lie 1e-8 from it
TRIALS = 20  # levels that are tried at most
LOWEST = 1e-6  # level, over the largest eigenvalue, below which there is no result
SETTLED = 1e-6  # norm of S^2 - I from which one more step reaches rounding


@dataclass(frozen=True)
class Projector:
    """A projector on the top `rank` eigenvectors."""

    rank: int
    matrix: Tensor  # (n, n) float64


@dataclass(frozen=True)
class Trial:
    """What one level gave."""

    level: float
    projector: Projector
    energy: float  # inside, of 1
    settled: bool


def leading(rows: Tensor, rule: str) -> Projector | None:
    """The projector at the rank of a rule (`choose_rank`, but for `budget`), of G (n, n) float64; None if not found."""
    total = float(rows.trace())
    if not 0 < total < math.inf or len(rows) < 2:
        return None
    g = rows / total
    rank, share = _target(g, rule)
    bound = _bound(g)
    high = bound
    low, above, below = LOWEST * high, -1.0, 1.0  # the measure at `high` and at `low`, only its sign being known yet
    for turn in range(TRIALS):
        part = 0.5 if turn % 2 == 0 else below / (below - above)
        trial = project(g, bound, low * (high / low) ** min(max(part, 0.05), 0.95))
        measure = trial.projector.rank - rank if share is None else trial.energy - share
        found = measure == 0 if share is None else 0 <= measure < trial.level  # the last direction holds more than c
        if found and trial.settled:
            return trial.projector if trial.projector.rank < len(g) else None
        if measure >= 0:
            low, below = trial.level, max(float(measure), 1e-3)
        else:
            high, above = trial.level, min(float(measure), -1e-3)
    return None


def _target(g: Tensor, rule: str) -> tuple[int, float | None]:
    """The rank that a rule asks for, or the share of the energy; g (n, n) has trace 1."""
    name, _, value = rule.partition(":")
    if name == "energy":
        return 0, float(value) - SHARE_TOLERANCE
    rank = int(value) if name == "fixed" else round(1.0 / float(g.square().sum()))
    return max(1, min(rank, len(g) - 1)), None


def _bound(g: Tensor) -> float:
    """No less than the largest eigenvalue of g (n, n), which has trace 1, and at most n^(1/32) times it.

    Never less: an eigenvalue of S beyond 1 would be stretched over to the other side.
    """
    power = g
    for _ in range(4):
        power = power @ power
    return math.pow(float(torch.linalg.matrix_norm(power)), 1 / 16)


def project(g: Tensor, bound: float, level: float) -> Trial:
    """The projector on the eigenvectors of g (n, n) above a level; no eigenvalue lies above `bound`."""
    eye = torch.eye(len(g), dtype=g.dtype, device=g.device)
    sign = (g - level * eye) / max(bound - level, level)
    least, settled = EXPECTED_GAP, False
    for _ in range(STEPS):
        square = sign @ sign
        settled = float(torch.linalg.matrix_norm(square - eye)) < SETTLED
        stretch = 1.0 if settled else math.sqrt(3.0 / (1.0 + least + least**2))
        sign = sign @ (1.5 * stretch * eye - 0.5 * stretch**3 * square)
        if settled:
            break
        least = 1.5 * stretch * least - 0.5 * (stretch * least) ** 3
    matrix = 0.5 * (sign + eye)
    count, energy = float(matrix.trace()), float((matrix * g).sum())
    return Trial(level, Projector(round(count) if math.isfinite(count) else 0, matrix), energy, settled)
