"""Intervals of measures and of their excess over the noise floor, resampling images."""

from collections.abc import Iterator

import duckdb
import numpy as np
import pyarrow as pa

from lofi.stats.resample import DRAWS, Floats, acceleration, bca_interval, dataset_seed, divide, drawn_sums

NUMBERS_AT_ONCE = 10_000_000  # sums by image, or draws, of the cells that are held together
BINS = 15  # of the expected calibration error, each of this run and of the full run
BOUNDS = pa.schema(
    [
        ("cell_id", pa.int32()),
        ("channel", pa.string()),
        ("measure", pa.string()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("excess_low", pa.float64()),
        ("excess_high", pa.float64()),
    ]
)


def bounded(con: duckdb.DuckDBPyConnection) -> pa.Table:
    """One row per cell and measure of `measure_sums`; NULL where there is no interval, or no floor to exceed."""
    groups = con.execute(
        "SELECT channel, measure, dataset, model, list(DISTINCT cell_id ORDER BY cell_id),"
        " max(cell_id) FILTER (method = 'floor'), 1 + max(part)"
        " FROM measure_sums JOIN grid USING (cell_id) GROUP BY ALL ORDER BY dataset, model, channel, measure"
    ).fetchall()
    sizes = dict(con.execute("SELECT dataset, max(cluster) + 1 FROM clusters GROUP BY dataset").fetchall())
    parts = [BOUNDS.empty_table()]
    for channel, measure, dataset, _, cells, floor, n_parts in groups:
        shape = sizes[dataset], 2 * BINS if measure == "ece" else n_parts
        noise = _figures(_sums(con, channel, measure, [floor], shape), dataset) if floor else None
        for some in _chunks(cells, max(sizes[dataset], DRAWS) * (shape[1] + 1)):
            found = _figures(_sums(con, channel, measure, some, shape), dataset)
            parts.append(_as_table(some, channel, measure, found, noise))
    return pa.concat_tables(parts)


def _chunks(cells: list[int], numbers: int) -> Iterator[list[int]]:
    """As many cells together as fit, each with so many numbers."""
    at_once = max(1, NUMBERS_AT_ONCE // numbers)
    for start in range(0, len(cells), at_once):
        yield cells[start : start + at_once]


def _sums(
    con: duckdb.DuckDBPyConnection, channel: str, measure: str, cells: list[int], shape: tuple[int, int]
) -> Floats:
    """The parts of each cell by image, and how many samples: (clusters, cells, parts + 1). shape: (clusters, parts)."""
    rows = con.execute(
        "SELECT cluster, cell_id, part, total, n FROM measure_sums"
        " WHERE channel = ? AND measure = ? AND cell_id BETWEEN ? AND ?",  # ids run through a model's dataset
        [channel, measure, cells[0], cells[-1]],
    ).fetchnumpy()
    sums = np.zeros((shape[0], len(cells), shape[1] + 1))
    place = rows["cluster"], np.searchsorted(cells, rows["cell_id"])
    sums[*place, rows["part"]] = rows["total"]
    np.add.at(sums[:, :, -1], place, rows["n"])
    return np.concatenate([_addable(sums[:, :, :-1]), sums[:, :, -1:]], axis=2)


def _addable(sums: Floats) -> Floats:
    """Sums rounded so that any of them, as often as there are images, add up exactly: the same in any order.

    (clusters, cells, parts), each cell on a grid of its own: 52 bits below the most that a draw of it can add up to.
    """
    _, bits = np.frexp(np.abs(sums).max(axis=(0, 2), initial=0.0) * len(sums))
    grid = np.ldexp(1.0, bits - 52)[:, None]
    return np.asarray(np.round(sums / grid) * grid, dtype=np.float64)


def _figures(sums: Floats, dataset: str) -> tuple[Floats, Floats, Floats]:
    """Cells as observed (cells,), in every draw (draws, cells), and without each image in turn (clusters, cells)."""
    flat = sums.reshape(len(sums), -1)
    drawn = drawn_sums(flat, DRAWS, dataset_seed(dataset)).reshape(DRAWS, *sums.shape[1:])
    whole = sums.sum(axis=0)
    left_out = _measure(whole - sums)
    left_out[:, np.count_nonzero(sums[:, :, -1], axis=0) < 2] = np.nan
    return _measure(whole[None])[0], _measure(drawn), left_out


def _measure(sums: Floats) -> Floats:
    """(rows, cells, parts + 1) to (rows, cells): a mean, or the difference of two calibration errors."""
    parts, n = sums[:, :, :-1], sums[:, :, -1]
    if parts.shape[2] == 1:
        return divide(parts[:, :, 0], n)
    gaps = np.abs(parts)
    return divide(gaps[:, :, :BINS].sum(axis=2) - gaps[:, :, BINS:].sum(axis=2), n)


def _as_table(
    cells: list[int],
    channel: str,
    measure: str,
    found: tuple[Floats, Floats, Floats],
    noise: tuple[Floats, Floats, Floats] | None,
) -> pa.Table:
    excess = tuple(one - other for one, other in zip(found, noise, strict=True)) if noise else None
    columns = {"cell_id": cells, "channel": [channel] * len(cells), "measure": [measure] * len(cells)}
    for prefix, figures in (("", found), ("excess_", excess)):
        bounds = _interval(*figures) if figures else np.full((2, len(cells)), np.nan)
        for name, bound in zip(("low", "high"), bounds, strict=True):
            columns[prefix + name] = pa.array(bound, pa.float64(), from_pandas=True)  # NaN to NULL
    return pa.table(columns, schema=BOUNDS)


def _interval(observed: Floats, drawn: Floats, left_out: Floats) -> Floats:
    """Low and high, (2, cells); NaN with fewer than two images, and where no draw moves the figure."""
    low, high = bca_interval(drawn, observed, acceleration(left_out))
    still = ~np.isfinite(left_out).all(axis=0) | (np.ptp(drawn, axis=0) == 0)
    return np.where(still, np.nan, np.stack([low, high]))
