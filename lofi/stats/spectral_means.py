"""The mean of every spectral statistic of a cell beside that of its full cell, over the samples that have both."""

import numpy as np
import pyarrow as pa

from lofi.cell import Cell
from lofi.stats.resample import Booleans, Floats, divide
from lofi.stats.stored_spectra import Stored, Values, totals
from lofi.store import STATISTICS

NUMBERS = ("value", "full_value", "delta", "dlog", "n", "n_dlog")
SPECTRA = pa.schema(
    [
        *((name, pa.string()) for name in ("model", "dataset", "method", "keep")),
        ("seed", pa.int32()),
        *(("site", pa.string()), ("tokens", pa.string()), ("centred", pa.bool_()), ("statistic", pa.string())),
        *((name, pa.float64()) for name in NUMBERS[:4]),
        *((name, pa.int64()) for name in NUMBERS[4:]),
    ]
)


def means(cell: Cell, this: Stored, full: Stored) -> pa.Table:
    """One row per token set and statistic of a cell. this, full: the same samples and sets."""
    paired = np.flatnonzero((this.measured & full.measured).any(axis=1))
    sets = [this.sets[place] for place in paired] * len(STATISTICS)
    columns = {name: pa.repeat(getattr(cell, name), len(sets)) for name in SPECTRA.names[:5]}
    columns |= {name: pa.array([getattr(of, name) for of in sets]) for name in SPECTRA.names[5:8]}
    columns["statistic"] = pa.array(np.repeat(STATISTICS, len(paired)))
    for name, numbers in zip(NUMBERS, _compared(this, full), strict=True):
        columns[name] = pa.array(numbers[:, paired].ravel(), from_pandas=True)  # NaN to NULL
    return pa.table([columns[field.name].cast(field.type) for field in SPECTRA], schema=SPECTRA)


def _compared(this: Stored, full: Stored) -> tuple[Floats, ...]:
    """All of `NUMBERS`, each (statistics, sets).

    dlog: the mean of ln this - ln full, over the samples where both are positive.
    """
    if this.gapless and full.gapless:
        n = np.full(this.values.shape[:2], float(this.values.shape[2]))
        value, full_value, dlog, n_dlog = this.sums, full.sums, this.log_sums - full.log_sums, n
    else:
        both = np.isfinite(this.values) & np.isfinite(full.values)
        value, full_value, n = _kept(this.values, both), _kept(full.values, both), both.sum(axis=-1).astype(np.float64)
        positive = np.isfinite(this.logs) & np.isfinite(full.logs)
        dlog = totals(np.subtract(this.logs, full.logs, out=np.zeros(positive.shape), where=positive))
        n_dlog = positive.sum(axis=-1).astype(np.float64)
    value, full_value = divide(value, n), divide(full_value, n)
    return value, full_value, value - full_value, divide(dlog, n_dlog), n, n_dlog


def _kept(values: Values, where: Booleans) -> Floats:
    """Sums over some of the samples, (statistics, sets)."""
    return totals(np.where(where, values, np.float32(0)))
