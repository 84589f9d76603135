"""Figures of a whole dataset, as its papers quote them: each is a weighted sum of ratios of sums over samples.

`lofi.stats.metrics` computes them; a card names them, and is checked before anything runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lofi.errors import unknown

DEFAULT = ("accuracy",)  # of a dataset that says nothing
PERCEPTION = (
    *("existence", "count", "position", "color", "posters"),
    *("celebrity", "scene", "landmark", "artwork", "OCR"),
)
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")


@dataclass(frozen=True)
class Figure:
    """A figure: a ratio of `ratios.sql`, of all samples or within categories, each for itself or pooled."""

    metric: str
    ratio: str
    within: str = ""  # all samples; or category, l2_category: a ratio for each
    pool: str = "each"  # or mean, sum: of the ratios of all parts
    among: tuple[str, ...] = ()  # only these categories
    scale: float = 1.0  # what a ratio of 1 is worth


ACCURACY = Figure("accuracy", "samples")
_PAIRS = 200.0  # of a category of MME: 100 for all answers right, 100 for all pairs right

METRICS: dict[str, tuple[Figure, ...]] = {
    "accuracy": (ACCURACY,),
    "score": (Figure("score", "score"),),
    # With yes as the positive class. What is neither yes nor no is wrong, but counts as neither.
    "pope": (
        ACCURACY,
        Figure("precision", "precision"),
        Figure("recall", "recall"),
        Figure("f1", "f1"),
        Figure("mean_f1", "f1", "category", "mean"),
        Figure("yes_share", "yes"),
        Figure("f1", "f1", "category"),
    ),
    "mme": (
        Figure("perception", "pairs", "category", "sum", PERCEPTION, _PAIRS),
        Figure("cognition", "pairs", "category", "sum", COGNITION, _PAIRS),
        Figure("sum", "pairs", "category", "sum", (*PERCEPTION, *COGNITION), _PAIRS),
        Figure("category_score", "pairs", "category", scale=_PAIRS),
        Figure("accuracy", "samples", "category"),
        Figure("accuracy_plus", "groups", "category"),
    ),
    "circular": (
        Figure("circular", "groups"),
        Figure("vanilla", "unrotated"),
        Figure("vanilla_all", "samples"),
    ),
    "categories": (
        Figure("mean_accuracy", "samples", "l2_category", "mean"),
        Figure("accuracy", "samples", "l2_category"),
    ),
    "hallusion": (Figure("aAcc", "samples"), Figure("qAcc", "groups"), Figure("fAcc", "figures")),
    "total": (Figure("total", "samples", scale=1000.0),),
    "by_category": (ACCURACY, Figure("accuracy", "samples", "category")),
}


def figures_of(dataset: str, families: Sequence[str]) -> tuple[Figure, ...]:
    """The figures of a dataset in the order of its card, each once."""
    if strange := next((name for name in families if name not in METRICS), None):
        raise unknown(f"metric of dataset {dataset}", strange, METRICS)
    return tuple(dict.fromkeys(figure for name in families for figure in METRICS[name]))
