"""The spectra of one cell as arrays, from its sample files, and sums over samples that no order of them changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lofi.stats.resample import Booleans, Floats, Integers
from lofi.store import STATISTICS

COARSE, FINE = 2.0**20, 2.0**62  # a sum is made of two sums of integers: of units of 2^-20, and of 2^-62 of the rest


@dataclass(frozen=True)
class TokenSet:
    """The tokens whose spectra are compared."""

    site: str
    tokens: str
    centred: bool

    def __str__(self) -> str:
        return f"{self.site}/{self.tokens}/{str(self.centred).lower()}"


@dataclass(frozen=True)
class Stored:
    """The spectra of n samples; a number that is missing is NaN."""

    sample_ids: pa.Array  # (n,)
    sets: tuple[TokenSet, ...]
    measured: Booleans  # (n, sets) whether a sample has the set at all
    values: npt.NDArray[np.float32]  # (statistics, n, sets)

    @cached_property
    def logs(self) -> Floats:
        """Natural logarithms, (statistics, n, sets); NaN where a number is not above 0."""
        values = self.values.astype(np.float64)
        return np.asarray(np.log(values, out=np.full(values.shape, np.nan), where=values > 0))

    @cached_property
    def sums(self) -> Floats:
        """Of the numbers that are not missing, (statistics, sets)."""
        return np.stack([totals(np.where(np.isfinite(each), each, 0.0).astype(np.float64)) for each in self.values])

    def at(self, rows: Integers, sets: Sequence[TokenSet]) -> "Stored":
        """Some of the samples and of the sets, in this order; itself where that is all there is."""
        columns = np.array([self.sets.index(of) for of in sets], dtype=np.int64)
        if tuple(sets) == self.sets and np.array_equal(rows, np.arange(len(self.measured))):
            return self
        ids = self.sample_ids.take(pa.array(rows))
        return Stored(ids, tuple(sets), self.measured[np.ix_(rows, columns)], self.values[:, rows][:, :, columns])

    def places(self, sample_ids: pa.Array | pa.ChunkedArray) -> Integers:
        """The row of each of these samples; -1 where it is not here."""
        found = pc.fill_null(pc.index_in(sample_ids, value_set=self.sample_ids), -1)
        return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.int64)


def read(paths: Sequence[str], chosen: pa.Array | None = None) -> Stored:
    """The samples of these files that ran, or those of them that are chosen."""
    tables = (pq.read_table(path, columns=["sample_id", "status", "spectra"], partitioning=None) for path in paths)
    table = pa.concat_tables([part.filter(_wanted(part, chosen)) for part in tables])
    spectra = table["spectra"].combine_chunks()
    sizes = pc.fill_null(pc.list_value_length(spectra), 0).to_numpy()
    entries = spectra.flatten()
    fields = dict(zip((field.name for field in entries.type), entries.flatten(), strict=True))
    sets, place = _sets(fields)
    n, numbers = len(table), [fields[name].to_numpy(zero_copy_only=False) for name in STATISTICS]
    sample_ids = table["sample_id"].combine_chunks()
    if np.array_equal(place, np.tile(np.arange(len(sets)), n)) and (sizes == len(sets)).all():  # the rule: no gaps
        values = np.stack(numbers).reshape(len(STATISTICS), n, len(sets)).astype(np.float32, copy=False)
        return Stored(sample_ids, sets, np.ones((n, len(sets)), dtype=bool), values)
    row = np.repeat(np.arange(n), sizes)
    measured = np.zeros((n, len(sets)), dtype=bool)
    measured[row, place] = True
    values = np.full((len(STATISTICS), n, len(sets)), np.nan, dtype=np.float32)
    values[:, row, place] = numbers
    return Stored(sample_ids, sets, measured, values)


def _wanted(part: pa.Table, chosen: pa.Array | None) -> pa.ChunkedArray:
    ran = pc.equal(part["status"].cast(pa.string()), "ok")
    return ran if chosen is None else pc.and_(ran, pc.is_in(part["sample_id"], value_set=chosen))


def _sets(fields: dict[str, pa.Array]) -> tuple[tuple[TokenSet, ...], Integers]:
    """The sets of all entries, in the order in which they first come, and which of them each entry is about."""
    codes, names = np.zeros(len(fields["site"]), dtype=np.int64), []
    for name in ("site", "tokens", "centred"):
        encoded = fields[name].dictionary_encode()
        names.append(encoded.dictionary.to_pylist())
        codes = codes * max(1, len(names[-1])) + encoded.indices.to_numpy()
    shape = [max(1, len(each)) for each in names]
    first = np.full(int(np.prod(shape)), len(codes))
    np.minimum.at(first, codes, np.arange(len(codes)))
    found = [int(code) for code in np.argsort(first, kind="stable") if first[code] < len(codes)]
    rank = np.zeros(len(first), dtype=np.int64)
    rank[found] = np.arange(len(found))
    places = (np.unravel_index(code, shape) for code in found)
    return tuple(TokenSet(*(name[at] for name, at in zip(names, each, strict=True))) for each in places), rank[codes]


def totals(values: Floats) -> Floats:
    """Sums of the columns, rounded once: the same in whatever order the rows come. values: (n, columns), finite."""
    coarse = np.rint(values * COARSE)
    fine = np.rint((values - coarse / COARSE) * FINE)
    steps = int(FINE / COARSE)
    sums = zip(*(part.astype(np.int64).sum(axis=0).tolist() for part in (coarse, fine)), strict=True)
    return np.array([(whole * steps + rest) / int(FINE) for whole, rest in sums])
