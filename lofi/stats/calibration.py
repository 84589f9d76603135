"""Reliability, and risk against coverage: how sure the answers of each cell are, and how many of them are right."""

from collections.abc import Iterator, Mapping
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

    def rows(self, start: int, stop: int) -> "Confidences":
        """Some samples that follow each other."""
        return Confidences(**{field.name: getattr(self, field.name)[start:stop] for field in fields(self)})


@dataclass(frozen=True)
class Placed:
    """Confidences with the bin of equal mass, among those of its cell, in which each lies."""

    found: Confidences
    bins: Integers  # (n,)
    full_bins: Integers  # (n,) of the full run's confidence

    def of(self, first: int, last: int) -> "Placed":
        """Of the cells from one to another."""
        start, stop = np.searchsorted(self.found.cell, [first, last + 1])
        return Placed(self.found.rows(start, stop), self.bins[start:stop], self.full_bins[start:stop])

    def cells(self) -> Iterator[tuple[int, "Placed"]]:
        """Each of them by itself."""
        for cell_id in np.unique(self.found.cell).tolist():
            yield cell_id, self.of(cell_id, cell_id)


@dataclass(frozen=True)
class Bins:
    """Samples in bins of confidence, (bins,); an empty bin has NaN."""

    n: Integers
    confidence: Floats
    accuracy: Floats
    variance: Floats  # of the number right, were every confidence true


def read(con: duckdb.DuckDBPyConnection) -> dict[str, Placed]:
    """All of the table `confidences`, by channel."""
    channels = con.execute("SELECT DISTINCT channel FROM confidences ORDER BY channel").fetchall()
    return {channel: placed(_read(con, channel)) for (channel,) in channels}


def _read(con: duckdb.DuckDBPyConnection, channel: str) -> Confidences:
    rows = con.execute(
        f"SELECT {', '.join(COLUMNS)} FROM confidences WHERE channel = ? ORDER BY cell_id, sample", [channel]
    ).fetchnumpy()
    whole = [np.asarray(rows[name], dtype=np.int64) for name in COLUMNS[:2]]
    sure = [np.ma.filled(rows[name].astype(np.float64), np.nan) for name in COLUMNS[2:]]
    right = [each.astype(bool) for each in sure[2:4]]
    return Confidences(whole[0], whole[1], sure[0], sure[1], right[0], right[1], sure[4], sure[5])


def placed(found: Confidences) -> Placed:
    """Bins within every cell."""
    starts = np.flatnonzero(np.diff(found.cell)) + 1
    runs = (found.confidence, found.full_confidence)
    bins, full_bins = (np.concatenate([mass_bins(part) for part in np.split(run, starts)]) for run in runs)
    return Placed(found, bins, full_bins)


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


def tables(channels: Mapping[str, Placed]) -> tuple[pa.Table, pa.Table]:
    """The bins of every cell, and its measures beside those of its full run."""
    bins, measures = [BINNED.empty_table()], [MEASURES.empty_table()]
    for channel, whole in channels.items():
        for cell_id, part in whole.cells():
            found = part.found
            of_cell, this = _reliability(found.confidence, found.correct, found.brier, part.bins)
            _, full = _reliability(found.full_confidence, found.full_correct, found.full_brier, part.full_bins)
            bins += [_bins_table(cell_id, channel, name, each) for name, each in of_cell.items()]
            measures.append(_measures_table(cell_id, channel, this, full, len(found.cell)))
    return pa.concat_tables(bins), pa.concat_tables(measures)


def _reliability(
    confidence: Floats, correct: Booleans, brier: Floats, bins: Integers
) -> tuple[dict[str, Bins], dict[str, float]]:
    """The bins and the measures of one run; bins: (n,) of equal mass."""
    mass = binned(bins, confidence, correct)
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
