"""The figures of whole datasets, from the sums over their samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from lofi.errors import UserError
from lofi.scoring.figures import DEFAULT, Figure, figures_of

_FIGURES = pa.schema(
    [
        ("dataset", pa.string()),
        ("place", pa.int32()),
        ("metric", pa.string()),
        ("ratio", pa.string()),
        ("within", pa.string()),
        ("pool", pa.string()),
        ("among", pa.list_(pa.string())),
        ("scale", pa.float64()),
    ]
)
# Per dataset, how many samples have what a figure may need, in the order of `_NEEDS`.
_PRESENT = """
SELECT dataset, count(category), count(l2_category), count(figure_key), count_if(unrotated)
FROM outcomes JOIN grid USING (cell_id) GROUP BY dataset ORDER BY dataset
"""
_NEEDS = {  # `within` or ratio of a figure -> what a sample must have
    "category": "a category",
    "l2_category": "an l2_category",
    "figures": "a figure_id",
    "unrotated": "its own id as its group_id",
}


def declare(con: duckdb.DuckDBPyConnection, metrics: Mapping[str, Sequence[str]]) -> None:
    """Make the table `figures`: what is computed for each dataset in `grid`; refuse what its samples cannot give."""
    datasets = [name for (name,) in con.execute("SELECT DISTINCT dataset FROM grid ORDER BY dataset").fetchall()]
    figures = {name: figures_of(name, metrics.get(name, DEFAULT)) for name in datasets}
    for dataset, *counts in con.execute(_PRESENT).fetchall():
        _check(dataset, figures[dataset], dict(zip(_NEEDS, counts, strict=True)))
    rows: list[dict[str, Any]] = [
        {"dataset": dataset, "place": place, **vars(figure)}
        for dataset, chosen in figures.items()
        for place, figure in enumerate(chosen)
    ]
    con.register("figures", pa.Table.from_pylist(rows, schema=_FIGURES))


def _check(dataset: str, figures: Sequence[Figure], present: Mapping[str, int]) -> None:
    for figure in figures:
        for need in (figure.within, figure.ratio):
            if need in _NEEDS and not present[need]:
                raise UserError(
                    f"no sample of dataset {dataset} has {_NEEDS[need]}, which its figure {figure.metric!r} counts by;"
                    " name it in the dataset's card, prepare it again and run `lofi rescore`"
                )
