"""Bootstrap intervals of rates and figures, resampling images: the same draws for all cells of a dataset."""

import zlib

import duckdb
import numpy as np
import pyarrow as pa

from lofi.stats.resample import Floats, Integers, rate_intervals, sum_intervals

SEED = 0
DRAWS = 1000
CELLS_AT_ONCE = 64  # cells whose sums by image are held in memory together
NUMBERS_AT_ONCE = 10_000_000  # sums by image, or draws, of the ratios of so many cells as are held together
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


def of_figures(con: duckdb.DuckDBPyConnection) -> pa.Table:
    """One row per cell and figure of `terms`: cell_id, figure_id, low, high; NULL where there is no interval."""
    parts = [_figure_table(np.empty(0), np.empty(0), np.empty(0), np.empty(0))]
    datasets = con.execute(
        "SELECT dataset, max(cluster) + 1, list(DISTINCT cell_id ORDER BY cell_id) FROM clusters"
        " SEMI JOIN terms USING (dataset) GROUP BY dataset ORDER BY dataset"
    ).fetchall()
    for dataset, n_clusters, cells in datasets:
        figures, n_ratios = _figures(con, dataset)
        at_once = max(1, NUMBERS_AT_ONCE // (max(n_clusters, DRAWS) * n_ratios))
        for start in range(0, len(cells), at_once):
            batch = cells[start : start + at_once]
            sums = [
                [(cell * n_ratios + ratio, weight) for ratio, weight in terms]
                for cell in range(len(batch))
                for terms in figures
            ]
            numerators, denominators = _ratios_by_cluster(con, dataset, batch, (n_clusters, n_ratios))
            low, high = sum_intervals(numerators, denominators, sums, DRAWS, dataset_seed(dataset))
            ids = np.repeat(batch, len(figures)), np.tile(np.arange(len(figures)), len(batch))
            parts.append(_figure_table(*ids, low, high))
    return pa.concat_tables(parts)


def _figures(con: duckdb.DuckDBPyConnection, dataset: str) -> tuple[list[list[tuple[int, float]]], int]:
    """Each figure's ratios and their weights, by figure_id, and how many ratios there are."""
    found = con.execute(
        "SELECT figure_id, ratio_id, weight FROM terms WHERE dataset = ? ORDER BY figure_id, ratio_id", [dataset]
    ).fetchall()
    figures: list[list[tuple[int, float]]] = [[] for _ in range(1 + max(figure for figure, _, _ in found))]
    for figure, ratio, weight in found:
        figures[figure].append((ratio, weight))
    return figures, 1 + max(ratio for _, ratio, _ in found)


def _ratios_by_cluster(
    con: duckdb.DuckDBPyConnection, dataset: str, cells: list[int], shape: tuple[int, int]
) -> tuple[Floats, Floats]:
    """Numerators and denominators, each (clusters, cells x ratios); shape: (clusters, ratios)."""
    rows = con.execute(
        "SELECT cluster, cell_id, ratio_id, numerator, denominator FROM ratios"
        " JOIN (SELECT DISTINCT dataset, basis, ratio, within, part, ratio_id FROM terms)"
        " USING (dataset, basis, ratio, within, part) WHERE dataset = ? AND list_contains(?, cell_id)",
        [dataset, cells],
    ).fetchnumpy()
    sums = np.zeros((2, shape[0], len(cells), shape[1]))
    place = rows["cluster"], np.searchsorted(cells, rows["cell_id"]), rows["ratio_id"]
    sums[0][place], sums[1][place] = rows["numerator"], rows["denominator"]
    numerators, denominators = sums.reshape(2, shape[0], -1)
    return numerators, denominators


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


def _figure_table(cells: Floats | Integers, figures: Floats | Integers, low: Floats, high: Floats) -> pa.Table:
    """All arguments: (cells x figures,)."""
    columns = {"cell_id": pa.array(cells, pa.int32()), "figure_id": pa.array(figures, pa.int32())}
    for name, bound in (("low", low), ("high", high)):
        columns[name] = pa.array(bound, pa.float64(), from_pandas=True)  # NaN to NULL
    return pa.table(columns)
