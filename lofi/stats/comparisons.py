"""Method against method at one keep: the difference of their agreements, paired by image on shared draws."""

from itertools import permutations

import duckdb
import numpy as np
import pyarrow as pa

from lofi.cell import OWN_COUNT
from lofi.stats.intervals import DRAWS, dataset_seed
from lofi.stats.resample import Floats, draw_counts, percentile_interval

COMPARISONS = pa.schema(
    [
        ("model", pa.string()),
        ("dataset", pa.string()),
        ("keep", pa.string()),
        ("method", pa.string()),
        ("versus", pa.string()),
        ("difference", pa.float64()),  # agreement of method minus that of versus, seeds of a method pooled
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("p", pa.float64()),  # two-sided: twice the share of draws on the far side of 0
        ("n_images", pa.int64()),
    ]
)


def compared(con: duckdb.DuckDBPyConnection) -> pa.Table:
    """One row per (model, dataset, keep) and ordered pair of methods."""
    blocks = con.execute(
        "SELECT model, dataset, keep, list(DISTINCT method ORDER BY method) FROM grid"
        " WHERE method NOT IN ('full', 'floor') AND keep <> ? GROUP BY ALL ORDER BY ALL",
        [OWN_COUNT],  # own counts are not one keep
    ).fetchall()
    rows = [row for block in blocks for row in _compare_block(con, *block)]
    return pa.Table.from_pylist(rows, schema=COMPARISONS)


def _compare_block(
    con: duckdb.DuckDBPyConnection, model: str, dataset: str, keep: str, methods: list[str]
) -> list[dict[str, object]]:
    agree, n = _sums_by_image(con, model, dataset, keep, methods)
    images = int((n.min(axis=1) > 0).sum())
    observed = _rates(np.ones((1, len(n))), agree, n)[0]
    rng = np.random.default_rng(dataset_seed(dataset))
    drawn = np.concatenate([_rates(weights, agree, n) for weights in draw_counts(len(n), DRAWS, rng)])
    rows: list[dict[str, object]] = []
    for a, b in permutations(range(len(methods)), 2):
        difference = drawn[:, a] - drawn[:, b]
        low, high = (float(bound[0]) for bound in percentile_interval(difference[:, None]))
        bounds = (low, high) if images > 1 and np.isfinite(low) else (None, None)
        rows.append(
            {
                **{"model": model, "dataset": dataset, "keep": keep, "method": methods[a], "versus": methods[b]},
                "difference": float(observed[a] - observed[b]) if images else None,
                **{"low": bounds[0], "high": bounds[1]},
                "p": _two_sided(difference) if images > 1 else None,
                "n_images": images,
            }
        )
    return rows


def _sums_by_image(
    con: duckdb.DuckDBPyConnection, model: str, dataset: str, keep: str, methods: list[str]
) -> tuple[Floats, Floats]:
    """Agreeing and all samples, each (clusters of the dataset, methods), seeds added up."""
    n_clusters = con.execute("SELECT max(cluster) + 1 FROM clusters WHERE dataset = ?", [dataset]).fetchall()[0][0]
    rows = con.execute(
        "SELECT cluster, method, sum(n_agree) AS agree, sum(c.n) AS n FROM clusters c JOIN grid g USING (cell_id)"
        " WHERE g.model = ? AND g.dataset = ? AND g.keep = ? AND method NOT IN ('full', 'floor') GROUP BY ALL",
        [model, dataset, keep],
    ).fetchnumpy()
    place = rows["cluster"], np.searchsorted(methods, rows["method"].astype(str))
    sums = np.zeros((2, n_clusters or 0, len(methods)))
    sums[0][place], sums[1][place] = rows["agree"], rows["n"]
    return sums[0], sums[1]


def _rates(weights: Floats, agree: Floats, n: Floats) -> Floats:
    """Agreement of each method in each draw: weights (draws, clusters) to (draws, methods)."""
    total = weights @ n
    return np.divide(weights @ agree, total, out=np.full_like(total, np.nan), where=total > 0)


def _two_sided(difference: Floats) -> float:
    """How often the draws leave 0 on one side; the added one keeps it from claiming more than the draws can."""
    below, above = np.count_nonzero(difference <= 0), np.count_nonzero(difference >= 0)
    return float(min(1.0, 2 * (min(below, above) + 1) / (len(difference) + 1)))
