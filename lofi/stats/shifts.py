"""The shift of every spectral statistic of every sample, cell by cell, beside what became of the sample's answer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lofi.cell import FLOOR, Cell
from lofi.stats.resample import Booleans, Floats, Integers
from lofi.store import STATISTICS

SEED = 0
MOST = 2000  # samples of one dataset that are looked at, drawn once: more would cost time and say the same


@dataclass(frozen=True)
class TokenSet:
    """The tokens whose spectra are compared."""

    site: str
    tokens: str
    centred: bool

    def __str__(self) -> str:
        return f"{self.site}/{self.tokens}/{str(self.centred).lower()}"


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
    full = _Logs(pa.array([], pa.string()), np.empty((0, 0)))
    for *names, cell_id, is_full, paths in files:
        samples = _samples(con, cell_id)
        if is_full:
            full = _logs(paths, _drawn(samples["sample_id"]), sets)
        else:
            samples = samples.filter(pc.is_in(samples["sample_id"], value_set=full.sample_ids))
            yield _beside(Cell(*names), samples, _logs(paths, full.sample_ids, sets), full)


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


@dataclass(frozen=True)
class _Logs:
    """Logarithms of the statistics of some samples of one cell."""

    sample_ids: pa.Array  # (n,)
    values: Floats  # (n, sets x statistics)

    def of(self, sample_ids: pa.ChunkedArray) -> Floats:
        """The rows of these samples, all of which are here."""
        place = pc.index_in(sample_ids, value_set=self.sample_ids).to_numpy()
        return np.asarray(self.values[place.astype(np.int64)])


def _beside(cell: Cell, samples: pa.Table, reduced: _Logs, full: _Logs) -> Shifts:
    dlog = reduced.of(samples["sample_id"]) - full.of(samples["sample_id"])
    changed, kl, margin, image = (samples[name].to_numpy() for name in ("changed", "kl", "full_margin", "cluster"))
    return Shifts(
        cell, changed.astype(bool), kl.astype(np.float64), margin.astype(np.float64), image.astype(np.int64), dlog
    )


def _logs(paths: Sequence[str], chosen: pa.Array, sets: Sequence[TokenSet]) -> _Logs:
    """Read the chosen samples of one cell, a file at a time."""
    columns = ["sample_id", "spectra"]
    tables = (pq.read_table(path, columns=columns, partitioning=None) for path in paths)
    table = pa.concat_tables([part.filter(pc.is_in(part["sample_id"], value_set=chosen)) for part in tables])
    spectra = table["spectra"].combine_chunks()
    sizes = pc.fill_null(pc.list_value_length(spectra), 0).to_numpy()
    entries = spectra.flatten()
    fields = dict(zip((field.name for field in entries.type), entries.flatten(), strict=True))
    names = pc.binary_join_element_wise(fields["site"], fields["tokens"], fields["centred"].cast(pa.string()), "/")
    known = pa.array([str(of) for of in sets], pa.string())
    place = pc.fill_null(pc.index_in(names, value_set=known), -1).to_numpy()
    values = np.stack([fields[name].to_numpy(zero_copy_only=False) for name in STATISTICS], axis=1).astype(np.float64)
    row, asked = np.repeat(np.arange(len(table)), sizes), place >= 0
    logs = np.full((len(table), len(sets), len(STATISTICS)), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs[row[asked], place[asked]] = np.where(values > 0, np.log(values), np.nan)[asked]
    return _Logs(table["sample_id"].combine_chunks(), logs.reshape(len(table), -1))
