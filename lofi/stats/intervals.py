"""Bootstrap intervals of the cells' rates, resampling images: the same draws for all cells of a dataset."""

import zlib

import duckdb
import numpy as np
import pyarrow as pa

from lofi.stats.resample import Floats, rate_intervals

SEED = 0
DRAWS = 1000
CELLS_AT_ONCE = 64  # cells whose sums by image are held in memory together
# Rate, its numerator and its denominator in the table `clusters`.
RATES = (
    ("agreement", "n_agree", "n"),
    ("accuracy", "n_correct", "n_graded"),
    ("neg_flip", "n_neg_flip", "n_graded"),
)


def resampled(con: duckdb.DuckDBPyConnection) -> pa.Table:
    """One row per cell: cell_id and {rate}_low, {rate}_high; NULL where there is no interval."""
    parts = []
    datasets = con.execute(
        "SELECT dataset, max(cluster) + 1, list(DISTINCT cell_id ORDER BY cell_id) FROM clusters"
        " GROUP BY dataset ORDER BY dataset"
    ).fetchall()
    for dataset, n_clusters, cells in datasets:
        seed = dataset_seed(dataset)
        for start in range(0, len(cells), CELLS_AT_ONCE):
            batch = cells[start : start + CELLS_AT_ONCE]
            numerators, denominators = _sums_by_cluster(con, dataset, n_clusters, batch)
            low, high = rate_intervals(numerators, denominators, DRAWS, seed)
            parts.append(_as_table(batch, low, high))
    return pa.concat_tables([_as_table([], np.empty(0), np.empty(0)), *parts])


def dataset_seed(dataset: str) -> int:
    """The seed of a dataset's draws, so that whatever is compared on it is compared on the same images."""
    return SEED + zlib.crc32(dataset.encode())


def _sums_by_cluster(
    con: duckdb.DuckDBPyConnection, dataset: str, n_clusters: int, cells: list[int]
) -> tuple[Floats, Floats]:
    """Numerators and denominators, each (clusters, cells x rates)."""
    rows = con.execute(
        "SELECT * FROM clusters WHERE dataset = ? AND list_contains(?, cell_id)", [dataset, cells]
    ).fetchnumpy()
    place = rows["cluster"], np.searchsorted(cells, rows["cell_id"])
    sums = np.zeros((2, n_clusters, len(cells), len(RATES)))
    for at, (_, numerator, denominator) in enumerate(RATES):
        sums[0, place[0], place[1], at] = rows[numerator]
        sums[1, place[0], place[1], at] = rows[denominator]
    numerators, denominators = sums.reshape(2, n_clusters, -1)
    return numerators, denominators


def _as_table(cells: list[int], low: Floats, high: Floats) -> pa.Table:
    """low, high: (cells x rates,)."""
    columns = {"cell_id": pa.array(cells, pa.int32())}
    for at, (rate, _, _) in enumerate(RATES):
        for name, bound in (("low", low), ("high", high)):
            values = bound.reshape(len(cells), len(RATES))[:, at]
            columns[f"{rate}_{name}"] = pa.array(values, pa.float64(), from_pandas=True)  # NaN to NULL
    return pa.table(columns)
