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
    """Mean ranks of each column, spread over (0, 1); values: (n, ...)."""
    columns = np.ascontiguousarray(values.reshape(len(values), -1).T)
    order = np.argsort(columns, axis=1)
    ordered = np.take_along_axis(columns, order, axis=1)
    tied = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)  # the others need no means, and most have no ties
    places = np.empty(columns.shape)
    np.put_along_axis(places, order, np.arange(1.0, len(values) + 1)[None], axis=1)
    if tied.any():
        places[tied] = rankdata(columns[tied], axis=1)
    return ((np.ascontiguousarray(places.T) - 0.5) / len(values)).reshape(values.shape)


def spearman(x: Floats, y: Floats) -> Floats:
    """Spearman of each column with y, (columns,); x: (n, columns), y: (n,). NaN where a side is constant."""
    a, b = ranks(x), ranks(y)
    a, b = a - a.mean(axis=0), b - b.mean()
    size = np.linalg.norm(a, axis=0) * np.linalg.norm(b)
    found: Floats = np.divide(b @ a, size, out=np.full(len(size), np.nan), where=size > 1e-9)
    return found


def auroc(ranked: Floats, changed: Booleans) -> Floats:
    """How often a changed sample ranks above one that is not, ties half: (columns,).

    ranked: (n, columns) of `ranks`; changed: (n,).
    """
    n, positives = len(changed), int(changed.sum())
    places = ranked[changed].sum(axis=0) * n + positives / 2  # back to ranks from 1
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
    """What each sample adds to the score test of each column beside the margin, (n, columns).

    The sum of a column is large where samples that shift more change more often than their margin says. What the
    margin explains of the column comes off first, so that estimating its part adds nothing.
    """
    p = chances(terms, fitted(terms, changed))
    weight = (p * (1 - p))[:, None]
    explained = terms @ np.linalg.solve((weight * terms).T @ terms, (weight * terms).T @ ranked)
    return np.asarray((ranked - explained) * (changed - p)[:, None])


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
