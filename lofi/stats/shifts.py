"""The shift of every spectral statistic of single samples, cell by cell, beside what became of each sample's answer."""

from dataclasses import dataclass
from functools import cached_property

import duckdb
import numpy as np
import pyarrow as pa

from lofi.cell import FLOOR, Cell
from lofi.stats.resample import Booleans, Floats, Integers
from lofi.stats.stored_spectra import Stored, TokenSet

SEED = 0
MOST = 2000  # samples of one dataset that are looked at, drawn once: more would cost time and say the same


# The one question that was declared before looking: the shift of its logarithm. All others are exploratory.
PRIMARY = (TokenSet("projector", "visual", True), "ipr_u")
NO_ANSWERS = {name: np.empty(0) for name in ("place", "changed", "kl", "margin")}


@dataclass(frozen=True)
class Shifts:
    """The samples of one cell, n of them; a number that is missing is NaN."""

    cell: Cell
    changed: Booleans  # (n,) another answer than in the full cell
    kl: Floats  # (n,)
    margin: Floats  # (n,) of the full model
    image: Integers  # (n,) the cluster, numbered within the dataset
    dlog: Floats  # (statistics x sets, n) ln of the reduced run's statistic less ln of the full run's
    place: Integers  # (n,) among the samples that are looked at


@dataclass(frozen=True)
class Drawn:
    """The samples of one (model, dataset) that are looked at, m of them in the order of their ids."""

    full: Stored  # all of the full cell
    sample_ids: pa.Array  # (m,)
    image: Integers  # (m,)
    answers: dict[int, dict[str, Floats]]  # cell_id -> place, changed, kl and margin of those that ran, each (n,)

    @cached_property
    def rows(self) -> Integers:
        """Where they are in the full cell, (m,)."""
        return self.full.places(self.sample_ids)

    @cached_property
    def full_logs(self) -> Floats:
        """Of the full cell, (statistics, sets, m)."""
        return self.full.logs.take(self.rows, axis=2)

    def shifts(self, cell: Cell, cell_id: int, this: Stored) -> Shifts:
        """Those of one cell."""
        answers, sets = self.answers.get(cell_id, NO_ANSWERS), self.full.sets
        place = answers["place"].astype(np.int64)
        rows = self.rows if this.sample_ids.equals(self.full.sample_ids) else this.places(self.sample_ids)
        logs = this.logs.take(rows[place], axis=2)
        if this.sets != sets:
            shared = [of for of in sets if of in this.sets]
            known = logs[:, [this.sets.index(of) for of in shared]]
            logs = np.full((len(logs), len(sets), len(place)), np.nan)
            logs[:, [sets.index(of) for of in shared]] = known
        logs -= self.full_logs if len(place) == len(self.rows) else self.full_logs.take(place, axis=2)
        dlog = logs.reshape(logs.shape[0] * logs.shape[1], len(place))
        changed = answers["changed"].astype(bool)
        return Shifts(cell, changed, answers["kl"], answers["margin"], self.image[place], dlog, place)


def drawn(con: duckdb.DuckDBPyConnection, full_cell_id: int, full: Stored) -> Drawn:
    """At most `MOST` samples of a full cell, and what became of their answers in its other cells.

    Not every n-th: questions about one image often come in a fixed order.
    """
    ran = con.sql(
        "SELECT sample_id, sample, outcomes.cluster FROM outcomes JOIN sample_ids USING (full_cell_id, sample)"
        " WHERE cell_id = ? AND ok ORDER BY sample",
        params=[full_cell_id],
    ).to_arrow_table()
    chosen = np.sort(np.random.default_rng(SEED).permutation(ran.num_rows)[:MOST])
    ran = ran.take(pa.array(chosen)).combine_chunks()
    con.register("drawn", ran.append_column("place", pa.array(np.arange(len(chosen)))))
    found = con.execute(
        "SELECT cell_id, place, NOT agrees AS changed, kl::DOUBLE AS kl, full_margin::DOUBLE AS margin"
        " FROM outcomes JOIN drawn USING (sample) JOIN grid USING (cell_id)"
        " WHERE outcomes.full_cell_id = ? AND cell_id <> outcomes.full_cell_id AND ok"
        " AND weights = 'none' AND method <> ? ORDER BY cell_id, place",
        [full_cell_id, FLOOR],
    ).fetchnumpy()
    con.unregister("drawn")
    columns = {name: np.ma.filled(values.astype(np.float64), np.nan) for name, values in found.items()}
    cells, starts = np.unique(columns.pop("cell_id"), return_index=True)
    parts = {name: np.split(values, starts[1:]) for name, values in columns.items()}
    answers = {int(cell): {name: part[at] for name, part in parts.items()} for at, cell in enumerate(cells)}
    image = ran["cluster"].to_numpy().astype(np.int64)
    return Drawn(full, pa.concat_arrays([pa.array([], pa.string()), *ran["sample_id"].chunks]), image, answers)
