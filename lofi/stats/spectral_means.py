"""The mean of every spectral statistic of every cell beside that of its full cell, over the samples that have both."""

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from lofi.stats.resample import Booleans, Floats, divide
from lofi.stats.stored_spectra import Stored, read, totals
from lofi.store import STATISTICS

AXES = ("model", "dataset", "method", "keep", "seed")
NUMBERS = ("value", "full_value", "delta", "dlog")
SPECTRA = pa.schema(
    [
        *((name, pa.string()) for name in AXES[:4]),
        ("seed", pa.int32()),
        *(("site", pa.string()), ("tokens", pa.string()), ("centred", pa.bool_()), ("statistic", pa.string())),
        *((name, pa.float64()) for name in NUMBERS),
        *((name, pa.int64()) for name in ("n", "n_dlog")),
    ]
)


def means(con: duckdb.DuckDBPyConnection) -> pa.Table:
    """One row per cell, token set and statistic. A full cell is held, and beside it one other for each thread."""
    files = con.execute(
        "SELECT model, dataset, method, keep, seed, cell_id, cell_id = full_cell_id AS is_full,"
        " list(file ORDER BY file)"
        " FROM runs JOIN stamps USING (path) JOIN grid USING (model, dataset, method, keep, seed)"
        " GROUP BY ALL ORDER BY model, dataset, is_full DESC, cell_id"
    ).fetchall()
    tables = [SPECTRA.empty_table()]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for _, cells in groupby(files, key=lambda row: row[:2]):
            here = list(cells)
            full = read(here[0][-1])
            tables += threads.map(lambda row, full=full: _of_cell(row[:5], read(row[-1]), full), here)
    return pa.concat_tables(tables)


def _of_cell(names: tuple[Any, ...], this: Stored, full: Stored) -> pa.Table:
    """The rows of one cell."""
    shared = [of for of in this.sets if of in full.sets]
    place = full.places(this.sample_ids)
    this, full = this.at(np.flatnonzero(place >= 0), shared), full.at(place[place >= 0], shared)
    paired = (this.measured & full.measured).any(axis=0)
    columns: dict[str, list[Any]] = {name: [] for name in SPECTRA.names}
    for at, statistic in enumerate(STATISTICS):
        numbers = _compare(this.values[at].astype(np.float64), full, at)
        for place_of in np.flatnonzero(paired):
            of = shared[place_of]
            row = (*names, of.site, of.tokens, of.centred, statistic, *(part[place_of] for part in numbers))
            for name, value in zip(columns, row, strict=True):
                columns[name].append(value)
    return pa.table([pa.array(columns[field.name], field.type, from_pandas=True) for field in SPECTRA], schema=SPECTRA)


def _compare(this: Floats, reference: Stored, statistic: int) -> tuple[Any, ...]:
    """Value, full value, delta, dlog, n and n_dlog of every set; this: (n, sets), the same samples as in `reference`.

    dlog: the mean of ln this - ln full, over the samples where both are positive.
    """
    full, full_logs = reference.values[statistic].astype(np.float64), reference.logs[statistic]
    both = np.isfinite(this) & np.isfinite(full)
    n = both.sum(axis=0)
    full_sums = reference.sums[statistic] if both.all() else totals(_kept(full, both))
    value, full_value = divide(totals(_kept(this, both)), n.astype(np.float64)), divide(full_sums, n.astype(np.float64))
    positive = both & (this > 0) & (full > 0)
    ratio = np.log(this, out=np.zeros(this.shape), where=positive)
    n_dlog = positive.sum(axis=0)
    dlog = divide(totals(ratio - _kept(full_logs, positive)), n_dlog.astype(np.float64))
    return value, full_value, value - full_value, dlog, n, n_dlog


def _kept(values: Floats, where: Booleans) -> Floats:
    """With 0 for all others, which adds nothing to a sum."""
    return np.where(where, values, 0.0)
