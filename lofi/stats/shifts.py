"""The shift of every spectral statistic of every sample, cell by cell, beside what became of the sample's answer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lofi.cell import FLOOR, Cell
from lofi.stats.resample import Booleans, Floats, Integers
from lofi.stats.stored_spectra import TokenSet, read
from lofi.store import STATISTICS

SEED = 0
MOST = 2000  # samples of one dataset that are looked at, drawn once: more would cost time and say the same


# The one question that was declared before looking: the shift of its logarithm. All others are exploratory.
PRIMARY = (TokenSet("projector", "visual", True), "ipr_u")


@dataclass(frozen=True)
class Shifts:
    """The samples of one cell, n of them; a number that is missing is NaN."""

    cell: Cell
    changed: Booleans  # (n,) another answer than in the full cell
    kl: Floats  # (n,)
    margin: Floats  # (n,) of the full model
    image: Integers  # (n,) the cluster, numbered within the dataset
    dlog: Floats  # (n, sets x statistics) ln of the reduced run's statistic less ln of the full run's


def token_sets(con: duckdb.DuckDBPyConnection) -> list[TokenSet]:
    """Every set of the table `spectra`, in the order of the columns of `Shifts.dlog`."""
    found = con.execute("SELECT DISTINCT site, tokens, centred FROM spectra ORDER BY ALL").fetchall()
    return [TokenSet(*row) for row in found]


def of_cells(con: duckdb.DuckDBPyConnection, sets: Sequence[TokenSet]) -> Iterator[Shifts]:
    """Every cell with pruned tokens, one at a time; only its full cell is held beside it."""
    files = con.execute(
        "SELECT model, dataset, method, keep, seed, cell_id, cell_id = full_cell_id AS is_full,"
        " list(file ORDER BY file)"
        " FROM runs JOIN stamps USING (path) JOIN grid USING (model, dataset, method, keep, seed)"
        " WHERE weights = 'none' AND method <> ? GROUP BY ALL ORDER BY model, dataset, is_full DESC, cell_id",
        [FLOOR],
    ).fetchall()
    full, full_logs = pa.array([], pa.string()), np.empty((0, 0))
    for *names, cell_id, is_full, paths in files:
        samples = _samples(con, cell_id)
        if is_full:
            full = _drawn(samples["sample_id"])
            full_logs = _logs(paths, full, sets)
        else:
            samples = samples.filter(pc.is_in(samples["sample_id"], value_set=full))
            place = pc.index_in(samples["sample_id"], value_set=full).to_numpy().astype(np.int64)
            yield _beside(Cell(*names), samples, (_logs(paths, full, sets) - full_logs)[place])


def _drawn(sample_ids: pa.ChunkedArray) -> pa.Array:
    """At most so many of them. Not every n-th: questions about one image often come in a fixed order."""
    chosen = np.random.default_rng(SEED).permutation(len(sample_ids))[:MOST]
    return sample_ids.combine_chunks().take(pa.array(np.sort(chosen)))


def _samples(con: duckdb.DuckDBPyConnection, cell_id: int) -> pa.Table:
    """What became of the answers of one cell, in the order of sample_id."""
    return con.sql(
        "SELECT sample_id, NOT agrees AS changed, kl, full_margin, cluster FROM outcomes"
        " JOIN clusters USING (cell_id, cluster_id) WHERE cell_id = ? AND ok ORDER BY sample_id",
        params=[cell_id],
    ).to_arrow_table()


def _beside(cell: Cell, samples: pa.Table, dlog: Floats) -> Shifts:
    changed, kl, margin, image = (samples[name].to_numpy() for name in ("changed", "kl", "full_margin", "cluster"))
    return Shifts(
        cell, changed.astype(bool), kl.astype(np.float64), margin.astype(np.float64), image.astype(np.int64), dlog
    )


def _logs(paths: Sequence[str], chosen: pa.Array, sets: Sequence[TokenSet]) -> Floats:
    """Logarithms of the chosen samples of one cell, (n, sets x statistics); NaN where there is none."""
    stored = read(paths, chosen)
    place = stored.places(chosen)
    logs = np.full((len(chosen), len(sets), len(STATISTICS)), np.nan)
    asked = np.array([at for at, of in enumerate(sets) if of in stored.sets], dtype=np.int64)
    found = stored.logs[:, :, [stored.sets.index(sets[at]) for at in asked]].transpose(1, 2, 0)
    logs[np.ix_(np.flatnonzero(place >= 0), asked)] = found[place[place >= 0]]
    return logs.reshape(len(chosen), -1)
