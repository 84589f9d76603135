"""Reliability, and risk against coverage: how sure the answers of each cell are, and how many of them are right."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import duckdb
import numpy as np
import pyarrow as pa

from lofi.stats.resample import Booleans, Floats, Integers, divide

BINS = 15  # of equal numbers of samples, or of equal width
COLUMNS = ("cell_id", "cluster", "confidence", "full_confidence", "correct", "full_correct", "brier", "full_brier")
BINNED = pa.schema(
    [
        *(("cell_id", pa.int32()), ("channel", pa.string()), ("binning", pa.string()), ("bin", pa.int64())),
        *(("n", pa.int64()), ("confidence", pa.float64()), ("accuracy", pa.float64())),
    ]
)
MEASURES = pa.schema(
    [
        *(("cell_id", pa.int32()), ("channel", pa.string()), ("measure", pa.string())),
        *(("value", pa.float64()), ("full_value", pa.float64()), ("n", pa.int64())),
    ]
)


@dataclass(frozen=True)
class Confidences:
    """The samples of some cells in the order of cells and ids, n of them; `full`: the same of their full runs."""

    cell: Integers  # (n,) cell_id
    cluster: Integers  # (n,)
    confidence: Floats  # (n,)
    full_confidence: Floats  # (n,)
    correct: Booleans  # (n,)
    full_correct: Booleans  # (n,)
    brier: Floats  # (n,) NaN where it is not defined
    full_brier: Floats  # (n,)

    def cells(self) -> Iterator[tuple[int, "Confidences"]]:
        """Each of them by itself."""
        ids, starts = np.unique(self.cell, return_index=True)
        parts = {field.name: np.split(getattr(self, field.name), starts[1:]) for field in fields(self)}
        for at, cell_id in enumerate(ids):
            yield int(cell_id), Confidences(**{name: part[at] for name, part in parts.items()})


@dataclass(frozen=True)
class Bins:
    """Samples in bins of confidence, (bins,); an empty bin has NaN."""

    n: Integers
    confidence: Floats
    accuracy: Floats
    variance: Floats  # of the number right, were every confidence true


def read(con: duckdb.DuckDBPyConnection, channel: str, cells: Sequence[int]) -> Confidences:
    """From the table `confidences`, which lies in this order; cells: sorted."""
    rows = con.execute(
        f"SELECT {', '.join(COLUMNS)} FROM confidences"
        " WHERE channel = ? AND cell_id BETWEEN ? AND ? ORDER BY cell_id, sample",
        [channel, cells[0], cells[-1]],
    ).fetchnumpy()
    whole = [np.asarray(rows[name], dtype=np.int64) for name in COLUMNS[:2]]
    sure = [np.ma.filled(rows[name].astype(np.float64), np.nan) for name in COLUMNS[2:]]
    right = [each.astype(bool) for each in sure[2:4]]
    return Confidences(whole[0], whole[1], sure[0], sure[1], right[0], right[1], sure[4], sure[5])


def mass_bins(confidence: Floats) -> Integers:
    """The bin of each sample, (n,), from 0: as many samples in each; the first have one more where it does not come out
    even. Equally sure ones go in the order in which they come.
    """
    found = np.empty(len(confidence), dtype=np.int64)
    each, more = divmod(len(confidence), BINS)
    found[np.argsort(confidence, kind="stable")] = np.repeat(np.arange(BINS), each + (np.arange(BINS) < more))
    return found


def width_bins(confidence: Floats) -> Integers:
    """The bin of each sample, (n,), from 0: as wide as any other."""
    return np.minimum(np.floor(confidence * BINS).astype(np.int64), BINS - 1)


def binned(place: Integers, confidence: Floats, correct: Booleans) -> Bins:
    """What lies in each bin; place: (n,) the bin of each sample."""
    n = np.bincount(place, minlength=BINS)
    sums = np.zeros((3, BINS))
    for at, weights in enumerate((confidence, correct, confidence * (1 - confidence))):
        sums[at] = np.bincount(place, weights=weights, minlength=BINS)
    means = divide(sums[:2], np.broadcast_to(n.astype(np.float64), (2, BINS)))
    return Bins(n.astype(np.int64), means[0], means[1], sums[2])


def gap(bins: Bins) -> float:
    """The expected calibration error."""
    return float(np.nansum(bins.n * np.abs(bins.confidence - bins.accuracy)) / bins.n.sum())


def null_gap(bins: Bins) -> float:
    """What it would be on average if every confidence were true: the gap of a bin is then near normal, and the mean of
    |x| is sqrt(2 / pi) of its deviation.
    """
    return float(np.sqrt(2 * bins.variance / np.pi).sum() / bins.n.sum())


def area_under_risk(confidence: Floats, correct: Booleans) -> float:
    """The mean share of errors among the k surest, over all k; equally sure ones in no order, so each as their mean."""
    order = np.argsort(-confidence, kind="stable")
    sure, k = confidence[order], np.arange(1, len(order) + 1)
    errors = np.concatenate([[0], np.cumsum(~correct[order])])
    begins = np.flatnonzero(np.diff(sure, prepend=np.inf))
    ends = np.append(begins[1:], len(order))
    run = np.repeat(np.arange(len(begins)), ends - begins)
    share = (errors[ends] - errors[begins]) / (ends - begins)
    return float(np.mean((errors[begins][run] + (k - begins[run]) * share[run]) / k))


def make(con: duckdb.DuckDBPyConnection) -> tuple[pa.Table, pa.Table]:
    """The bins of every cell, and its measures beside those of its full run."""
    groups = con.execute(
        "SELECT channel, list(DISTINCT cell_id ORDER BY cell_id) FROM confidences GROUP BY channel ORDER BY channel"
    ).fetchall()
    bins, measures = [BINNED.empty_table()], [MEASURES.empty_table()]
    for channel, cells in groups:
        for cell_id, found in read(con, channel, cells).cells():
            of_cell, this = _reliability(found.confidence, found.correct, found.brier)
            _, full = _reliability(found.full_confidence, found.full_correct, found.full_brier)
            bins += [_bins_table(cell_id, channel, name, each) for name, each in of_cell.items()]
            measures.append(_measures_table(cell_id, channel, this, full, len(found.cell)))
    return pa.concat_tables(bins), pa.concat_tables(measures)


def _reliability(confidence: Floats, correct: Booleans, brier: Floats) -> tuple[dict[str, Bins], dict[str, float]]:
    """The bins and the measures of one run."""
    mass = binned(mass_bins(confidence), confidence, correct)
    width = binned(width_bins(confidence), confidence, correct)
    known = brier[np.isfinite(brier)]
    return {"equal_mass": mass, "equal_width": width}, {
        "confidence": float(confidence.mean()),
        "ece": gap(mass),
        "ece_null": null_gap(mass),
        "ece_corrected": gap(mass) - null_gap(mass),
        "ece_equal_width": gap(width),
        "brier": float(known.mean()) if len(known) else np.nan,
        "aurc": area_under_risk(confidence, correct),
    }


def _bins_table(cell_id: int, channel: str, binning: str, bins: Bins) -> pa.Table:
    """Of those that are not empty."""
    at = np.flatnonzero(bins.n)
    columns = [bins.n[at], bins.confidence[at], bins.accuracy[at]]
    names = [pa.repeat(value, len(at)) for value in (cell_id, channel, binning)]
    return pa.table([*names, at + 1, *columns], names=BINNED.names).cast(BINNED)


def _measures_table(cell_id: int, channel: str, this: dict[str, float], full: dict[str, float], n: int) -> pa.Table:
    values = [pa.array(list(each.values()), pa.float64(), from_pandas=True) for each in (this, full)]  # NaN to NULL
    names = [pa.repeat(cell_id, len(this)), pa.repeat(channel, len(this)), pa.array(list(this))]
    return pa.table([*names, *values, pa.repeat(n, len(this))], names=MEASURES.names).cast(MEASURES)
