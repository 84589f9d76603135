"""The spectra of one cell as arrays, from its sample files, and sums over samples that no order of them changes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lofi.stats.resample import Booleans, Floats, Integers
from lofi.store import STATISTICS

Values = npt.NDArray[np.float32]

ENTRY = "spectra.list.element."
NAMES = ("site", "tokens", "centred")
COLUMNS = ("sample_id", "status", *(ENTRY + name for name in (*NAMES, *STATISTICS)))
BLOCK = 250  # samples that are turned round together: as many as a processor's first cache holds
BITS = 62  # of a sum, which is of integers


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
    measured: Booleans  # (sets, n) whether a sample has the set at all
    values: Values  # (statistics, sets, n)

    @cached_property
    def logs(self) -> Floats:
        """Natural logarithms, (statistics, sets, n); NaN where a number is not above 0."""
        if self.gapless:
            return np.asarray(np.log(self.values, dtype=np.float64))
        undefined = np.full(self.values.shape, np.nan)
        return np.asarray(np.log(self.values, out=undefined, where=self.values > 0, dtype=np.float64))

    @cached_property
    def gapless(self) -> bool:
        """Whether every number is there, finite and above 0."""
        return bool(self.values.min(initial=np.inf) > 0 and self.values.max(initial=0) < np.inf)

    @cached_property
    def sums(self) -> Floats:
        """Of all numbers, where there is no gap: (statistics, sets)."""
        return totals(self.values)

    @cached_property
    def log_sums(self) -> Floats:
        """Of all logarithms, where there is no gap: (statistics, sets)."""
        return totals(self.logs)

    def at(self, rows: Integers, sets: Sequence[TokenSet]) -> "Stored":
        """Some of the samples and of the sets, in this order; itself where that is all there is."""
        if tuple(sets) == self.sets and np.array_equal(rows, np.arange(len(self.sample_ids))):
            return self
        chosen = np.array([self.sets.index(of) for of in sets], dtype=np.int64)
        values = np.ascontiguousarray(self.values[:, chosen][:, :, rows])
        return Stored(self.sample_ids.take(pa.array(rows)), tuple(sets), self.measured[np.ix_(chosen, rows)], values)

    def places(self, sample_ids: pa.Array) -> Integers:
        """The row of each of these samples; -1 where it is not here."""
        if sample_ids.equals(self.sample_ids):
            return np.arange(len(sample_ids))
        found = pc.fill_null(pc.index_in(sample_ids, value_set=self.sample_ids), -1)
        return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.int64)


def read(paths: Sequence[str]) -> Stored:
    """The samples of these files that ran."""
    parts = [part for path in paths for part in _parts(path)]
    if len(parts) == 1:
        return parts[0]
    sets = tuple(dict.fromkeys(of for part in parts for of in part.sets))
    shape = len(sets), sum(len(part.sample_ids) for part in parts)
    measured = np.zeros(shape, dtype=bool)
    values = _empty(*shape)
    start = 0
    for part in parts:
        rows, places = slice(start, start + len(part.sample_ids)), [sets.index(of) for of in part.sets]
        measured[places, rows], values[:, places, rows] = part.measured, part.values
        start = rows.stop
    ids = pa.concat_arrays([pa.array([], pa.string()), *(part.sample_ids for part in parts)])
    return Stored(ids, sets, measured, values)


def _parts(path: str) -> Iterator[Stored]:
    """One file, row group by row group: several at once cannot be read as below."""
    names = [ENTRY + name for name in NAMES[:2]]
    with pq.ParquetFile(path, read_dictionary=names) as file:  # names as numbers: a text for each entry costs as much
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=list(COLUMNS), use_threads=False)
            ran = pc.equal(table["status"].cast(pa.string()), "ok")
            table = table if pc.all(ran, skip_nulls=False).as_py() else table.filter(ran)
            if table.num_rows:
                found = table.combine_chunks()
                yield _part(found["sample_id"].chunk(0), found["spectra"].chunk(0))


def _empty(sets: int, n: int) -> Values:
    return np.full((len(STATISTICS), sets, n), np.nan, dtype=np.float32)


def _part(sample_ids: pa.Array, spectra: pa.ListArray) -> Stored:
    """The entries of some samples, by set."""
    sizes = pc.fill_null(pc.list_value_length(spectra), 0).to_numpy()
    entries = spectra.flatten()
    fields = dict(zip((field.name for field in entries.type), entries.flatten(), strict=True))
    codes, names = _codes(fields)
    n, each = len(sizes), int(sizes[0])
    numbers = [fields[name].to_numpy(zero_copy_only=False) for name in STATISTICS]
    if (sizes == each).all() and (codes.reshape(n, each) == codes[:each]).all():  # the rule: no gaps
        values = np.empty((len(STATISTICS), each, n), dtype=np.float32)
        for of, number in zip(values, numbers, strict=True):
            for start in range(0, n, BLOCK):
                of[:, start : start + BLOCK] = number.reshape(n, each)[start : start + BLOCK].T
        if len(set(codes[:each].tolist())) == each:
            return Stored(sample_ids, tuple(map(names.__getitem__, codes[:each])), np.ones((each, n), bool), values)
    found, place = np.unique(codes, return_inverse=True)
    row = np.repeat(np.arange(n), sizes)
    measured = np.zeros((len(found), n), dtype=bool)
    measured[place, row] = True
    values = _empty(len(found), n)
    values[:, place, row] = numbers
    return Stored(sample_ids, tuple(map(names.__getitem__, found)), measured, values)


def _codes(fields: dict[str, pa.Array]) -> tuple[Integers, dict[int, TokenSet]]:
    """A number for the set of each entry, (entries,), and which set each number is."""
    codes, dictionaries = np.zeros(len(fields["site"]), dtype=np.int64), []
    for name in NAMES:
        encoded = fields[name] if pa.types.is_dictionary(fields[name].type) else fields[name].dictionary_encode()
        dictionaries.append(encoded.dictionary.to_pylist())
        codes = codes * len(dictionaries[-1]) + encoded.indices.to_numpy()
    return codes, {code: TokenSet(*names) for code, names in enumerate(product(*dictionaries))}


def totals(values: Values | Floats) -> Floats:
    """Sums over the last axis, rounded once: the same in whatever order the samples come. values: (..., n), finite.

    Each number is rounded to a multiple of a power of two, and the multiples are added as integers. A number that is
    added to 1.5 * 2^52 of these units has its multiple in its last bits.
    """
    n = values.shape[-1]
    largest = np.maximum(values.max(axis=-1, initial=0), -values.min(axis=-1, initial=0)).astype(np.float64)
    units = np.frexp(largest)[1] - min(51, BITS - n.bit_length())
    shift = np.ldexp(1.5, 52 + units)
    sums = (values + shift[..., None]).view(np.int64).sum(axis=-1) - shift.view(np.int64) * n
    return np.asarray(np.ldexp(sums.astype(np.float64), units))
