"""Ridge regression of a logit in closed form, where some columns are free and the others pay a chosen penalty."""

from dataclasses import dataclass

import numpy as np

from lofi.stats.resample import Booleans, Floats, Integers

# Of the penalised columns, per unit of weight; under the first they play no part.
PENALTIES = np.array([np.inf, *np.logspace(2, -2, 13)])
ROUNDING = 1e-9  # errors that differ by less are the same
EDGE = 0.5  # counts are moved away from 0 and n by so much, so that every logit is finite


@dataclass(frozen=True)
class Counts:
    """Rows to learn from: n_agree of n, and what it is explained by. A value that is missing is NaN."""

    n_agree: Floats  # (rows,)
    n: Floats  # (rows,)
    free: Floats  # (rows, columns), never penalised; none missing
    penalised: Floats  # (rows, columns)

    def at(self, rows: Booleans) -> "Counts":
        """Some of the rows."""
        return Counts(self.n_agree[rows], self.n[rows], self.free[rows], self.penalised[rows])


def held_out(data: Counts, groups: Integers) -> Floats:
    """The share of each row as predicted from the rows of the other groups, (rows,).

    groups: (rows,), at least three different ones. The penalty is chosen by holding out each of the other groups in
    turn, so nothing about a group is used in its prediction but the columns.
    """
    predicted = np.empty(len(groups))
    for group in np.unique(groups):
        rest = groups != group
        penalty = _best(data.at(rest), groups[rest])
        predicted[~rest] = predictions(data.at(rest), data.at(~rest), PENALTIES[[penalty]])[0]
    return predicted


def _best(data: Counts, groups: Integers) -> int:
    """The place of the largest penalty whose error over held-out groups is within one standard error of the least.

    So a column that says nothing is left out, not fitted to chance.
    """
    if not data.penalised.shape[1]:
        return 0
    errors = np.empty((len(PENALTIES), len(groups)))
    for group in np.unique(groups):
        rest = groups != group
        held = data.at(~rest)
        errors[:, ~rest] = np.abs(predictions(data.at(rest), held, PENALTIES) - held.n_agree / held.n)
    more = errors - errors[np.argmin(errors.mean(axis=1))]
    tolerated = more.mean(axis=1) <= more.std(axis=1) / np.sqrt(len(groups)) + ROUNDING
    return int(np.argmax(tolerated))


def predictions(known: Counts, new: Counts, penalties: Floats) -> Floats:
    """Predict the share of each new row from a fit to the known ones: (penalties, new rows).

    Rows weigh n p (1 - p), the inverse variance of a logit. Missing values become the mean of the known ones.
    """
    share = (known.n_agree + EDGE) / (known.n + 2 * EDGE)
    weight = known.n * share * (1 - share)
    weight = weight / weight.sum()
    root = np.sqrt(weight)[:, None]
    free, new_free = _standardised(known.free, new.free, weight)
    free, new_free = (np.column_stack([np.ones(len(part)), part]) for part in (free, new_free))
    extra, new_extra = _standardised(known.penalised, new.penalised, weight)
    # What the free columns explain comes off first; the penalty then concerns the rest alone.
    inverse = np.linalg.pinv(root * free, rcond=1e-9) * root.T
    logit = np.log(share / (1 - share))
    by_free, extra_by_free = inverse @ logit, inverse @ extra
    left, size, right = np.linalg.svd(root * (extra - free @ extra_by_free), full_matrices=False)
    along = left.T @ (root[:, 0] * (logit - free @ by_free))
    slopes = (size * along / (size**2 + penalties[:, None])) @ right  # (penalties, columns)
    logits = new_free @ by_free + slopes @ (new_extra - new_free @ extra_by_free).T
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))))


def _standardised(known: Floats, new: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Both, in units of the known ones' spread about their mean; 0 where a value is missing or a column constant."""
    present = np.isfinite(known)
    mass = np.maximum(weight @ present, np.finfo(np.float64).tiny)
    mean = weight @ np.where(present, known, 0) / mass
    spread = np.sqrt(weight @ np.where(present, known - mean, 0) ** 2 / mass)
    varies = spread > 1e-9 * np.maximum(np.abs(mean), 1e-9)
    scale = np.where(varies, spread, 1)

    def scaled(values: Floats) -> Floats:
        return np.asarray(np.where(np.isfinite(values) & varies, (values - mean) / scale, 0))

    return scaled(known), scaled(new)
