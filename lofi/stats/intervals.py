"""Bootstrap intervals of rates and figures, resampling images: the same draws for all cells of a dataset."""

import duckdb
import numpy as np
import pyarrow as pa

from lofi.stats.blocks import Block
from lofi.stats.resample import (
    DRAWS,
    Floats,
    Integers,
    dataset_seed,
    exact_bounds,
    percentile_interval,
    rate_bounds,
    rate_draws,
    sum_bounds,
)

NUMBERS_AT_ONCE = 10_000_000  # sums by image, or draws, of the ratios of so many cells as are held together
SHOWN = ("agreement", "accuracy", "neg_flip")


def of_cells(block: Block) -> pa.Table:
    """One row per cell: cell_id and {rate}_low, {rate}_high; NULL where there is no interval."""
    columns = {"cell_id": pa.array(block.cells, pa.int32())}
    for rate in SHOWN:
        sums = block.of_cells
        columns |= _bounds(rate, *rate_bounds(sums.in_draws(rate), *sums.parts(rate)))
    return pa.table(columns)


def of_methods(block: Block) -> pa.Table:
    """One row per method, its seeds pooled: model, dataset, method, keep and {rate}_low, {rate}_high.

    Seeds are drawn first and images next, so the bounds also know how much the seeds differ. Leaving out one image at a
    time says nothing about seeds: where there are several the bounds are plain percentiles.
    """
    several = np.array([len(cells) > 1 for cells in block.members])
    columns = {
        name: pa.array([value] * len(block.methods), pa.string())
        for name, value in (("model", block.model), ("dataset", block.dataset), ("keep", block.keep))
    }
    columns["method"] = pa.array(block.methods, pa.string())
    for rate in SHOWN:
        parts, drawn = block.of_methods.parts(rate), block.of_methods.in_draws(rate)
        bounds = rate_bounds(drawn, *parts)
        moved = several & np.isnan(exact_bounds(*parts)[0]) & np.isfinite(bounds[0])
        for bound, percentile in zip(bounds, percentile_interval(drawn), strict=True):
            np.copyto(bound, percentile, where=moved)
        columns |= _bounds(rate, *bounds)
    return pa.table(columns)


def _bounds(rate: str, low: Floats, high: Floats) -> dict[str, pa.Array]:
    """The columns {rate}_low and {rate}_high; NaN to NULL."""
    found = {"low": low, "high": high}
    return {f"{rate}_{end}": pa.array(bound, pa.float64(), from_pandas=True) for end, bound in found.items()}


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
            drawn = rate_draws(numerators, denominators, DRAWS, dataset_seed(dataset))
            low, high = sum_bounds(drawn, numerators, denominators, sums)
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
        " USING (dataset, basis, ratio, within, part)"
        " WHERE dataset = ? AND cell_id BETWEEN ? AND ? AND list_contains(?, cell_id)",
        [dataset, min(cells), max(cells), cells],
    ).fetchnumpy()
    sums = np.zeros((2, shape[0], len(cells), shape[1]))
    place = rows["cluster"], np.searchsorted(cells, rows["cell_id"]), rows["ratio_id"]
    sums[0][place], sums[1][place] = rows["numerator"], rows["denominator"]
    numerators, denominators = sums.reshape(2, shape[0], -1)
    return numerators, denominators


def _figure_table(cells: Floats | Integers, figures: Floats | Integers, low: Floats, high: Floats) -> pa.Table:
    """All arguments: (cells x figures,)."""
    columns = {"cell_id": pa.array(cells, pa.int32()), "figure_id": pa.array(figures, pa.int32())}
    for name, bound in (("low", low), ("high", high)):
        columns[name] = pa.array(bound, pa.float64(), from_pandas=True)  # NaN to NULL
    return pa.table(columns)
