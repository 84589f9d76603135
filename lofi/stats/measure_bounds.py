"""Intervals of measures and of their excess over the noise floor, resampling images."""

import math
from collections.abc import Iterator, Mapping

import duckdb
import numpy as np
import pyarrow as pa

from lofi.stats.calibration import BINS, Placed
from lofi.stats.resample import DRAWS, Floats, Integers, acceleration, bca_interval, dataset_seed, divide, drawn_sums

NUMBERS_AT_ONCE = 10_000_000  # sums by image, or draws, of the cells that are held together
# Of each measure that has intervals and is a mean: what noise can move in a sample, and the samples. The other, `ece`,
# has a sum for each bin of this run, and then one for each of the full run.
MOVED = {
    ("answer", "divergence_rate"): ("(NOT agrees)::INTEGER", "outcomes WHERE ok"),
    ("tokens", "kl"): ("kl", "outcomes WHERE ok"),
    ("options", "kl"): ("kl", "option_samples WHERE true"),
    ("options", "answer_margin"): ("margin_change", "option_samples WHERE true"),
    ("options", "nll"): ("nll - full_nll", "option_samples WHERE true"),
    ("options", "brier"): ("brier - full_brier", "confidences WHERE channel = 'options'"),
    ("text", "brier"): ("brier - full_brier", "confidences WHERE channel = 'text'"),
}
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


def bounded(
    con: duckdb.DuckDBPyConnection, dataset: str, cells: list[int], floor: int | None, channels: Mapping[str, Placed]
) -> pa.Table:
    """One row per cell of a (model, dataset) and measure that has something to resample.

    channels: the confidences of these cells. NULL where there is no interval, or no floor to exceed.
    """
    last = con.execute("SELECT max(cluster) FROM clusters WHERE dataset = ?", [dataset]).fetchall()[0][0]
    images = 0 if last is None else last + 1
    parts = [BOUNDS.empty_table()]
    for of in (*MOVED, *((channel, "ece") for channel in channels)):
        noise = None
        if floor and (sums := _sums(con, of, [floor], images, channels)).any():
            noise = _figures(sums, dataset)
        for some in _chunks(cells, max(images, DRAWS) * (2 * BINS + 1 if of[1] == "ece" else 2)):
            sums = _sums(con, of, some, images, channels)
            known = np.flatnonzero(sums[:, :, -1].any(axis=0))
            if len(known):
                found = _figures(sums[:, known], dataset)
                parts.append(_as_table([some[at] for at in known], *of, found, noise))
    return pa.concat_tables(parts)


def _chunks(cells: list[int], numbers: int) -> Iterator[list[int]]:
    """As many cells together as fit, each with so many numbers."""
    at_once = max(1, NUMBERS_AT_ONCE // numbers)
    for start in range(0, len(cells), at_once):
        yield cells[start : start + at_once]


def _sums(
    con: duckdb.DuckDBPyConnection,
    of: tuple[str, str],
    cells: list[int],
    images: int,
    channels: Mapping[str, Placed],
) -> Floats:
    """The parts of a measure of each cell by image, and how many samples: (images, cells, parts + 1)."""
    if of in MOVED:
        moved, samples = MOVED[of]
        rows = con.execute(
            f"SELECT cell_id, cluster, ({moved})::DOUBLE AS moved FROM {samples} AND isfinite(moved)"
            " AND cell_id BETWEEN ? AND ?",  # ids run through a model's dataset
            [cells[0], cells[-1]],
        ).fetchnumpy()
        cell = np.searchsorted(cells, rows["cell_id"])
        image, part, values = rows["cluster"].astype(np.int64), np.zeros(len(cell), dtype=np.int64), rows["moved"]
        n, shape = np.bincount(image * len(cells) + cell, minlength=images * len(cells)), (images, len(cells), 1)
    else:
        cell, image, part, values = _gaps(channels[of[0]].of(cells[0], cells[-1]), cells)
        own = slice(len(cell) // 2)
        n = np.bincount(image[own] * len(cells) + cell[own], minlength=images * len(cells))
        shape = (images, len(cells), 2 * BINS)
    place = (image * len(cells) + cell) * shape[2] + part
    even = _even(values, cell, n.reshape(images, -1))
    sums = np.bincount(place, weights=even, minlength=math.prod(shape)).astype(np.float64)
    return np.concatenate([_addable(sums.reshape(shape)), n.reshape(*shape[:2], 1).astype(np.float64)], axis=2)


def _gaps(placed: Placed, cells: list[int]) -> tuple[Integers, Integers, Integers, Floats]:
    """Of every sample in this run, and then of every one in the full run, each (2 n,).

    Its cell by place, its image, its bin, and by how much it is too sure.
    """
    found = placed.found
    bins = np.concatenate([placed.bins, BINS + placed.full_bins])
    gaps = np.concatenate([found.confidence - found.correct, found.full_confidence - found.full_correct])
    cell = np.tile(np.searchsorted(cells, found.cell), 2)
    return cell, np.tile(found.cluster, 2), bins, gaps


def _even(values: Floats, cell: Integers, n: Integers) -> Floats:
    """Values rounded so that those of an image add up to the same in whatever order the rows come.

    To 52 bits below the greatest of the cell, less those that so many samples of an image take; n: (images, cells).
    """
    most = np.zeros(n.shape[1])
    np.maximum.at(most, cell, np.abs(values))
    shift = np.ldexp(1.5, np.frexp(most)[1] + int(n.max(initial=0)).bit_length())[cell]
    return np.asarray((values + shift) - shift, dtype=np.float64)


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
