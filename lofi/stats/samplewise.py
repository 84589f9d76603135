"""Inside one cell: whether the shift of a spectrum tells which answers change, and more than the margin does."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from lofi.stats.resample import Booleans, Floats, Integers

FOLDS = 5
STEPS = 50  # of Newton, none longer than STRIDE; a fit that moves no more stops earlier
STRIDE = 4.0
STILL = 1e-8
SHRINKAGE = 1e-5  # of all slopes, so that a fit to separated samples ends


def ranks(values: Floats) -> Floats:
    """Mean ranks along the last axis, spread over (0, 1); values: (..., n)."""
    columns = np.ascontiguousarray(values.reshape(-1, values.shape[-1]))
    order = np.argsort(columns, axis=1)
    ordered = np.take_along_axis(columns, order, axis=1)
    tied = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)  # the others need no means, and most have no ties
    places = np.empty(columns.shape)
    np.put_along_axis(places, order, np.arange(1.0, columns.shape[1] + 1)[None], axis=1)
    if tied.any():
        places[tied] = rankdata(columns[tied], axis=1)
    found: Floats = (places - 0.5) / columns.shape[1]
    return found.reshape(values.shape)


def ranks_of_size(values: Floats, ranked: Floats) -> Floats:
    """`ranks` of the absolute values, both (columns, n); ranked: `ranks` of the values.

    They have the same order, or the opposite one, in a column whose values all have one sign.
    """
    negative = values.max(axis=1) <= 0
    mixed = ~negative & (values.min(axis=1) < 0)
    found = np.where(negative[:, None], 1 - ranked, ranked)
    found[mixed] = ranks(np.abs(values[mixed]))
    return found


def rank_correlation(ranked: Floats, other: Floats) -> Floats:
    """Spearman of each column with one, (columns,); NaN where a side is constant. (columns, n) and (n,) of `ranks`."""
    a, b = ranked - 0.5, other - 0.5  # the mean of all ranks is 0.5
    size = np.sqrt(np.einsum("cn,cn->c", a, a) * (b @ b))
    found: Floats = np.divide(a @ b, size, out=np.full(len(size), np.nan), where=size > 1e-9)
    return found


def auroc(ranked: Floats, changed: Booleans) -> Floats:
    """How often a changed sample ranks above one that is not, ties half: (columns,).

    ranked: (columns, n) of `ranks`; changed: (n,).
    """
    n, positives = len(changed), int(changed.sum())
    places = ranked @ changed.astype(np.float64) * n + positives / 2  # back to ranks from 1
    return np.asarray((places - positives * (positives + 1) / 2) / (positives * (n - positives)), dtype=np.float64)


def margin_terms(margin: Floats) -> Floats:
    """(n, 3): one, the rank of the full model's margin and its square, so that no scale of margins is assumed."""
    place = ranks(margin) - 0.5
    return np.column_stack([np.ones(len(place)), place, place**2])


def fitted(terms: Floats, changed: Booleans) -> Floats:
    """Slopes (terms,) of a logistic regression; terms: (n, terms)."""
    slopes = np.zeros(terms.shape[1])
    shrink = SHRINKAGE * len(changed) * np.eye(terms.shape[1])
    for _ in range(STEPS):
        p = chances(terms, slopes)
        gradient = terms.T @ (changed - p) - shrink @ slopes
        step = np.linalg.solve((terms * (p * (1 - p))[:, None]).T @ terms + shrink, gradient)
        slopes = slopes + step * min(1.0, STRIDE / max(float(np.abs(step).max()), STILL))
        if np.abs(step).max() < STILL:
            break
    return np.asarray(slopes, dtype=np.float64)


def chances(terms: Floats, slopes: Floats) -> Floats:
    """Of a change, for each sample (n,)."""
    return np.asarray(1 / (1 + np.exp(-np.clip(terms @ slopes, -30, 30))))


def score_parts(ranked: Floats, changed: Booleans, terms: Floats) -> Floats:
    """What each sample adds to the score test of each column beside the margin, (columns, n); ranked: of `ranks`.

    The sum of a column is large where samples that shift more change more often than their margin says. What the
    margin explains of the column comes off first, so that estimating its part adds nothing.
    """
    p = chances(terms, fitted(terms, changed))
    weighted = (p * (1 - p))[:, None] * terms
    explained = np.linalg.solve(weighted.T @ terms, (ranked @ weighted).T).T @ terms.T
    return np.asarray((ranked - explained) * (changed - p))


@dataclass(frozen=True)
class Gain:
    """Area under the curve of two forecasts of change, out of sample, and what each image adds to the difference."""

    by_margin: float
    by_both: float
    influence: Floats  # (images,) sums to 0; the variance of the difference is about their sum of squares


def gain(ranked: Floats, changed: Booleans, terms: Floats, image: Integers, n_images: int) -> Gain:
    """What a shift adds to the full model's margin, by cross-validation over images.

    ranked, changed, image: (n,). Folds are whole images, so no image is forecast from questions about itself.
    """
    _, place = np.unique(image, return_inverse=True)
    scores = []
    for columns in (terms, np.column_stack([terms, ranked - 0.5])):
        out_of_fold = np.empty(len(changed))
        for fold in range(FOLDS):
            held = place % FOLDS == fold
            out_of_fold[held] = columns[held] @ fitted(columns[~held], changed[~held])
        scores.append(out_of_fold)
    areas, parts = zip(*(area_parts(score, changed) for score in scores), strict=True)
    influence = np.bincount(image, weights=parts[1] - parts[0], minlength=n_images)
    return Gain(areas[0], areas[1], influence.astype(np.float64))


def area_parts(score: Floats, changed: Booleans) -> tuple[float, Floats]:
    """Area under the curve, and each sample's part in its error (DeLong, 1988): (n,), which sums to 0."""
    everywhere, n = rankdata(score), len(score)
    positives = int(changed.sum())
    within = np.empty(n)
    within[changed], within[~changed] = rankdata(score[changed]), rankdata(score[~changed])
    others = np.where(changed, n - positives, positives)
    beaten = (everywhere - within) / others  # share of the other class below this one, ties half
    placement = np.where(changed, beaten, 1 - beaten)
    area = float(placement[changed].mean())
    return area, (placement - area) / np.where(changed, positives, n - positives)
