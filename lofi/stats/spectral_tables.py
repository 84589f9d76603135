"""The tables about spectra, of cells and of single samples, from one reading of every file."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

import duckdb
import numpy as np
import pyarrow as pa

from lofi.cell import FLOOR, Cell
from lofi.stats.beyond_margin import OfCell, Told, beyond_margin, of_cell, sample_shifts, tell
from lofi.stats.resample import Floats
from lofi.stats.shifts import PRIMARY, Drawn, drawn
from lofi.stats.spectral_means import SPECTRA, means
from lofi.stats.stored_spectra import TokenSet, read
from lofi.store import STATISTICS


@dataclass(frozen=True)
class Published:
    """A cell and its sample files."""

    cell: Cell
    cell_id: int
    treated: bool  # by a method that changes its tokens
    paths: list[str]


@dataclass(frozen=True)
class Looked:
    """What one cell adds to the tables; the second and third are None where its tokens are untreated."""

    means: pa.Table
    told: Told | None
    of_cell: OfCell | None


@dataclass(frozen=True)
class Pair:
    """What the cells of one (model, dataset) add to the tables."""

    name: str
    sets: tuple[TokenSet, ...]
    means: list[pa.Table]
    told: list[Floats]  # of each treated cell: n, n_changed, spearman, auroc, (4, statistics, sets)
    cells: list[OfCell]


@dataclass(frozen=True)
class Tables:
    """`spectra`, still to be sorted, and the two about single samples."""

    means: pa.Table
    sample_shifts: pa.Table
    beyond_margin: pa.Table


def make(con: duckdb.DuckDBPyConnection) -> Tables:
    """All three. A full cell is held, and beside it one other for each thread."""
    sizes = dict(con.execute("SELECT dataset, max(cluster) + 1 FROM clusters GROUP BY dataset").fetchall())
    pairs, scores = [], dict[str, dict[TokenSet, Floats]]()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for _, group in groupby(_files(con), key=lambda file: (file.cell.model, file.cell.dataset)):
            files = list(group)
            dataset = files[0].cell.dataset
            chosen = drawn(con, files[0].cell_id, read(files[0].paths))
            pair, of_images = _pair(files, chosen, sizes.get(dataset, 0), threads)
            pairs.append(pair)
            known = scores.setdefault(dataset, {})
            for of, added in zip(pair.sets, of_images, strict=True):
                known[of] = known.get(of, 0) + added
    rows = [SPECTRA.empty_table(), *(table for pair in pairs for table in pair.means)]
    asked = any(PRIMARY[0] in pair.sets for pair in pairs)
    of_cells = [cell for pair in pairs for cell in pair.cells] if asked else []
    return Tables(pa.concat_tables(rows), _of_samples(pairs, list(scores.values())), beyond_margin(of_cells))


def _files(con: duckdb.DuckDBPyConnection) -> Iterator[Published]:
    """Every cell; of each (model, dataset) the full one first."""
    found = con.execute(
        "SELECT model, dataset, method, keep, seed, cell_id, cell_id = full_cell_id AS is_full,"
        " weights = 'none' AND method <> ? AS as_loaded, list(file ORDER BY file)"
        " FROM runs JOIN stamps USING (path) JOIN grid USING (model, dataset, method, keep, seed)"
        " GROUP BY ALL ORDER BY model, dataset, is_full DESC, cell_id",
        [FLOOR],
    )
    for *names, cell_id, is_full, as_loaded, paths in found.fetchall():
        yield Published(Cell(*names), cell_id, as_loaded and not is_full, paths)


def _pair(files: Sequence[Published], chosen: Drawn, n_images: int, threads: Executor) -> tuple[Pair, Floats]:
    """The cells of one (model, dataset), and the sums of their score tests by image, (sets, statistics, images)."""
    shape = len(STATISTICS), len(chosen.full.sets)
    rows, told, cells = [], [], []
    parts = np.zeros((shape[0] * shape[1], len(chosen.image)))
    for looked in threads.map(lambda file: _look(file, chosen, n_images), files):
        rows.append(looked.means)
        if looked.told is not None:
            one = looked.told
            if len(one.place) == len(chosen.image):
                parts += one.parts
            else:
                parts[:, one.place] += one.parts
            told.append(np.stack([one.n, one.n_changed, one.spearman, one.auroc]).reshape(4, *shape))
        cells += [looked.of_cell] if looked.of_cell else []
    of_images = np.zeros((n_images, len(parts)))
    np.add.at(of_images, chosen.image, parts.T)
    pair = Pair(f"{files[0].cell.model}/{files[0].cell.dataset}", chosen.full.sets, rows, told, cells)
    return pair, of_images.reshape(n_images, *shape).transpose(2, 1, 0)


def _look(file: Published, chosen: Drawn, n_images: int) -> Looked:
    """At one cell, which is read here and forgotten."""
    full = chosen.full
    this = read(file.paths)
    sets, place = [of for of in this.sets if of in full.sets], full.places(this.sample_ids)
    rows = means(file.cell, this.at(np.flatnonzero(place >= 0), sets), full.at(place[place >= 0], sets))
    if not file.treated:
        return Looked(rows, None, None)
    shifts = chosen.shifts(file.cell, file.cell_id, this)
    of, statistic = PRIMARY
    primary = np.full(len(shifts.kl), np.nan)
    if of in full.sets:
        primary = shifts.dlog[STATISTICS.index(statistic) * len(full.sets) + full.sets.index(of)]
    return Looked(rows, tell(shifts), of_cell(shifts, primary, n_images))


def _of_samples(pairs: Sequence[Pair], scores: Sequence[dict[TokenSet, Floats]]) -> pa.Table:
    """The table `sample_shifts`: every set of any pair, and each with all statistics.

    scores: by dataset, of each set (statistics, images).
    """
    sets = sorted({of for pair in pairs for of in pair.sets}, key=lambda of: (of.site, of.tokens, of.centred))
    told, names = [], [pair.name for pair in pairs for _ in pair.told]
    for pair in pairs:
        at = [sets.index(of) for of in pair.sets]
        for numbers in pair.told:
            known = np.full((4, len(sets), len(STATISTICS)), np.nan)
            known[:2] = 0
            known[:, at] = numbers.transpose(0, 2, 1)
            told.append(known.reshape(4, -1))
    filled = []
    for of_sets in filter(None, scores):
        none = np.zeros_like(next(iter(of_sets.values())))
        filled.append(np.concatenate([of_sets.get(of, none) for of in sets]))
    variables = [(of, statistic) for of in sets for statistic in STATISTICS]
    return sample_shifts(variables, told, names, filled)
