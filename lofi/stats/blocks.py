"""What is resampled together: the cells of one (model, dataset, keep), as sums by image and sums in every draw."""

from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import numpy as np

from lofi.stats.resample import (
    DRAWS,
    Booleans,
    Floats,
    Integers,
    dataset_seed,
    divide,
    draw_counts,
    drawn_sums,
    rates_left_out,
)

COLUMNS = ("n", "n_agree", "n_graded", "n_correct", "n_neg_flip", "n_full_correct")  # of the table `clusters`
# Rate -> its numerator and its denominator in `COLUMNS`. accuracy_full: of the full model, on this cell's samples.
RATES = {"agreement": (1, 0), "accuracy": (3, 2), "neg_flip": (4, 2), "accuracy_full": (5, 2)}
_FLAGS = ("ok", "agrees", "graded", "correct", "full_correct")  # in the order of `Answers`


@dataclass(frozen=True)
class Sums:
    """Counts of several units (cells, or methods): by_cluster (clusters, units, 6), drawn (draws, units, 6)."""

    by_cluster: Floats
    drawn: Floats

    def parts(self, rate: str) -> tuple[Floats, Floats]:
        """Numerators and denominators of a rate, each (clusters, units)."""
        numerator, denominator = RATES[rate]
        return self.by_cluster[:, :, numerator], self.by_cluster[:, :, denominator]

    def observed(self, rate: str) -> Floats:
        """The rate of every unit: (units,); NaN without a sample."""
        numerators, denominators = self.parts(rate)
        return divide(numerators.sum(axis=0), denominators.sum(axis=0))

    def in_draws(self, rate: str) -> Floats:
        """The rate of every unit in every draw: (draws, units)."""
        numerator, denominator = RATES[rate]
        return divide(self.drawn[:, :, numerator], self.drawn[:, :, denominator])

    def left_out(self, rate: str) -> Floats:
        """The rate of every unit without each cluster in turn: (clusters, units)."""
        return rates_left_out(*self.parts(rate))


@dataclass(frozen=True)
class Answers:
    """What became of every sample, by cell: (cells, samples), but cluster: (samples,)."""

    cluster: Integers
    ran: Booleans
    agrees: Booleans
    graded: Booleans
    correct: Booleans
    full_correct: Booleans


@dataclass(frozen=True)
class Block:
    """The cells of one (model, dataset, keep), and its methods with their seeds pooled."""

    model: str
    dataset: str
    keep: str
    cells: tuple[int, ...]
    methods: tuple[str, ...]
    members: tuple[tuple[int, ...], ...]  # of each method: the places of its cells, one for every seed
    of_cells: Sums
    of_methods: Sums
    answers: Answers


def blocks(con: duckdb.DuckDBPyConnection) -> Iterator[Block]:
    """Every block, dataset by dataset, so that the draws of a dataset are made once."""
    found = con.execute(
        "SELECT model, dataset, keep, list(cell_id ORDER BY cell_id), list(method ORDER BY cell_id)"
        " FROM grid GROUP BY model, dataset, keep ORDER BY dataset, model, keep"
    ).fetchall()
    for model, dataset, keep, cells, method_of in found:
        methods = tuple(dict.fromkeys(method_of))
        members = tuple(tuple(at for at, name in enumerate(method_of) if name == method) for method in methods)
        seed = dataset_seed(dataset)
        by_cluster = _sums_by_cluster(con, dataset, cells)
        flat = by_cluster.reshape(len(by_cluster), -1)
        drawn = drawn_sums(flat, DRAWS, seed) if len(flat) else np.zeros((DRAWS, flat.shape[1]))
        of_cells = Sums(by_cluster, drawn.reshape(DRAWS, *by_cluster.shape[1:]))
        of_methods = pooled(of_cells, members, seed)
        answers = _answers(con, cells)
        yield Block(model, dataset, keep, tuple(cells), methods, members, of_cells, of_methods, answers)


def _sums_by_cluster(con: duckdb.DuckDBPyConnection, dataset: str, cells: list[int]) -> Floats:
    """(clusters of the dataset, cells, columns)."""
    n_clusters = con.execute("SELECT max(cluster) + 1 FROM clusters WHERE dataset = ?", [dataset]).fetchall()[0][0]
    rows = con.execute(
        f"SELECT cluster, cell_id, {', '.join(COLUMNS)} FROM clusters"
        " WHERE cell_id BETWEEN ? AND ? AND list_contains(?, cell_id)",
        [min(cells), max(cells), cells],
    ).fetchnumpy()
    sums = np.zeros((n_clusters or 0, len(cells), len(COLUMNS)))
    place = rows["cluster"], np.searchsorted(cells, rows["cell_id"])
    for at, name in enumerate(COLUMNS):
        sums[*place, at] = rows[name]
    return sums


def pooled(sums: Sums, members: tuple[tuple[int, ...], ...], seed: int) -> Sums:
    """Add up the seeds of every method. In a draw its seeds are drawn first, then the images, the same for all.

    A method of one seed has no seeds to draw.
    """
    by_cluster = np.stack([sums.by_cluster[:, cells].sum(axis=1) for cells in members], axis=1)
    drawn = np.stack([_drawn_seeds(sums.drawn[:, cells], seed) for cells in members], axis=1)
    return Sums(by_cluster, drawn)


def _drawn_seeds(drawn: Floats, seed: int) -> Floats:
    """(draws, seeds, columns) to (draws, columns): the sum over as many seeds as there are, drawn with replacement."""
    draws, n_seeds, _ = drawn.shape
    counts = np.concatenate(list(draw_counts(n_seeds, draws, np.random.default_rng([seed, n_seeds]))))
    return np.asarray(np.einsum("ds,dsc->dc", counts, drawn), dtype=np.float64)


def _answers(con: duckdb.DuckDBPyConnection, cells: list[int]) -> Answers:
    """All cells of a block hold the same samples, which the checks have made sure of."""
    rows = con.execute(
        "SELECT ok, ok AND agrees AS agrees, ok AND correct IS NOT NULL AS graded,"
        " ok AND coalesce(correct, false) AS correct, ok AND coalesce(full_correct, false) AS full_correct"
        # the bounds let DuckDB pass over most rows of other cells unread: a cell's rows lie together
        " FROM outcomes WHERE cell_id BETWEEN ? AND ? AND list_contains(?, cell_id) ORDER BY cell_id, sample",
        [min(cells), max(cells), cells],
    ).fetchnumpy()
    numbered = con.execute(
        "SELECT dense_rank() OVER (ORDER BY cluster) - 1 AS cluster FROM outcomes WHERE cell_id = ? ORDER BY sample",
        [cells[0]],
    ).fetchnumpy()
    flags = [np.asarray(rows[name], dtype=bool).reshape(len(cells), -1) for name in _FLAGS]
    return Answers(np.asarray(numbered["cluster"], dtype=np.int64), *flags)
