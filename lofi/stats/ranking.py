"""The order of methods at one keep: how sure it is, and whether datasets tell the same."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
from scipy.stats import rankdata

from lofi.cell import FLOOR, FULL, OWN_COUNT
from lofi.stats.blocks import Block
from lofi.stats.exact import TAILS
from lofi.stats.resample import Floats


@dataclass(frozen=True)
class Rank:
    """A method's place by agreement among the methods of one (model, dataset, keep); 1 agrees most."""

    model: str
    dataset: str
    keep: str
    method: str
    agreement: float
    rank: float  # methods that agree equally often share the mean of their ranks
    rank_low: float
    rank_high: float
    best: float  # share of draws in which it agrees most; methods that are equal share the draw
    order_changes: float  # share of draws in which a method passes another one of the same (model, dataset, keep)
    n_methods: int


RANKS = pa.schema(
    [
        *((field.name, pa.string()) for field in fields(Rank)[:4]),
        *((field.name, pa.float64()) for field in fields(Rank)[4:-1]),
        ("n_methods", pa.int64()),
        ("mean_rank", pa.float64()),  # over the datasets, among the methods that all of them have
        ("kendall_w", pa.float64()),  # the same for all rows of a (model, keep)
        ("n_datasets", pa.int64()),
    ]
)


def ranked(block: Block) -> list[Rank]:
    """One rank per method that has a sample; none where fewer than two can be ordered."""
    rates = block.of_methods.observed("agreement")
    free = [
        at
        for at, method in enumerate(block.methods)
        if method not in (FULL, FLOOR) and block.keep != OWN_COUNT and np.isfinite(rates[at])
    ]
    if len(free) < 2:
        return []
    drawn = block.of_methods.in_draws("agreement")[:, free]
    drawn = drawn[np.isfinite(drawn).all(axis=1)]
    places = rankdata(-drawn, axis=1)
    top = drawn == drawn.max(axis=1, keepdims=True)
    best = (top / top.sum(axis=1, keepdims=True)).mean(axis=0)
    low, high = np.quantile(places, TAILS, axis=0, method="inverted_cdf")
    changes = order_changes(rates[free], drawn)
    ranks = rankdata(-rates[free])
    return [
        Rank(
            block.model,
            block.dataset,
            block.keep,
            block.methods[at],
            agreement=float(rates[at]),
            rank=float(ranks[place]),
            rank_low=float(low[place]),
            rank_high=float(high[place]),
            best=float(best[place]),
            order_changes=changes,
            n_methods=len(free),
        )
        for place, at in enumerate(free)
    ]


def order_changes(observed: Floats, drawn: Floats) -> float:
    """Share of draws in which one of two methods that differ is passed by the other.

    observed: (methods,), drawn: (draws, methods).
    """
    order = np.argsort(-observed, kind="stable")
    values, drawn = observed[order], drawn[:, order]
    passed = np.zeros(len(drawn), dtype=bool)
    for at, value in enumerate(values):
        worse = drawn[:, values < value]
        if worse.size:
            passed |= worse.max(axis=1) > drawn[:, at]
    return float(passed.mean())


def kendall_w(ranks: Floats) -> float:
    """Kendall's W, corrected for ties: 1 where all datasets order the methods alike, 0 where nothing is shared.

    ranks: (datasets, methods). NaN where every dataset ties all methods.
    """
    m, n = ranks.shape
    ties = 0.0
    for row in ranks:
        _, sizes = np.unique(row, return_counts=True)
        ties += float((sizes**3 - sizes).sum())
    spread = float(np.square(ranks.sum(axis=0) - m * (n + 1) / 2).sum())
    most = m * m * (n**3 - n) - m * ties
    return 12 * spread / most if most else float("nan")


def as_table(ranks: Sequence[Rank]) -> pa.Table:
    """All ranks of a sweep, each beside what the datasets of its model and keep share."""
    rows = []
    for model, keep in sorted({(rank.model, rank.keep) for rank in ranks}):
        here = [rank for rank in ranks if (rank.model, rank.keep) == (model, keep)]
        shared, means, w = _over_datasets(here)
        for rank in here:
            mean = means.get(rank.method)
            rows.append({**vars(rank), "mean_rank": mean, "kendall_w": w, "n_datasets": shared})
    rows.sort(key=lambda row: tuple(str(row[name]) for name in RANKS.names[:4]))
    return pa.Table.from_pylist(rows, schema=RANKS)


def _over_datasets(ranks: Sequence[Rank]) -> tuple[int, dict[str, float], float | None]:
    """How many datasets, the mean rank of each method that all of them have, and their concordance."""
    agreements = {(rank.dataset, rank.method): rank.agreement for rank in ranks}
    datasets = sorted({rank.dataset for rank in ranks})
    named = sorted({rank.method for rank in ranks})
    methods = [method for method in named if all((dataset, method) in agreements for dataset in datasets)]
    if len(datasets) < 2 or len(methods) < 2:
        return len(datasets), {}, None
    table = np.array([[agreements[dataset, method] for method in methods] for dataset in datasets])
    places = rankdata(-table, axis=1)
    w = kendall_w(places)
    return (
        len(datasets),
        dict(zip(methods, map(float, places.mean(axis=0)), strict=True)),
        w if np.isfinite(w) else None,
    )
