"""The spectra of a cell as arrays, where samples have gaps, and sums that no order changes."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lofi.cell import Cell
from lofi.stats.spectral_means import means
from lofi.stats.stored_spectra import TokenSet, read, totals
from lofi.store import SPECTRUM, STATISTICS

SETS = (TokenSet("projector", "visual", False), TokenSet("projector", "visual", True), TokenSet("llm_0", "text", False))


def written(path: Path, samples: dict[str, dict[TokenSet, float] | None], status: dict[str, str] | None = None) -> str:
    """A file with just what is read; every statistic of a set is the same number."""
    rows = [
        {
            "sample_id": name,
            "status": (status or {}).get(name, "ok"),
            "spectra": None
            if found is None
            else [{**vars(of), **dict.fromkeys(STATISTICS, x)} for of, x in found.items()],
        }
        for name, found in samples.items()
    ]
    kind = [("sample_id", pa.string()), ("status", pa.string()), ("spectra", pa.list_(SPECTRUM))]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(kind)), path)
    return str(path)


def test_gaps_are_nan_in_whatever_order_entries_come(tmp_path: Path) -> None:
    a, b, c = SETS
    one = written(tmp_path / "one", {"s1": {a: 1.0, b: 2.0}, "s0": {b: 4.0, a: 3.0}, "s2": None})
    other = written(tmp_path / "other", {"s3": {c: 5.0}, "s4": {a: 6.0}}, {"s4": "error"})
    found = read([one, other])
    assert found.sample_ids.to_pylist() == ["s1", "s0", "s2", "s3"]
    assert set(found.sets) == set(SETS)
    values = {of: found.values[0, at].tolist() for at, of in enumerate(found.sets)}
    nan = pytest.approx(math.nan, nan_ok=True)
    assert values == {a: [1, 3, nan, nan], b: [2, 4, nan, nan], c: [nan, nan, nan, 5]}
    assert (found.measured == np.isfinite(found.values[0])).all()
    assert found.places(pa.array(["s3", "s9", "s1"])).tolist() == [3, -1, 0]
    none = read([written(tmp_path / "none", {"s0": None}, {"s0": "error"})])
    assert (len(none.sample_ids), none.sets) == (0, ())


def test_means_are_over_what_both_have(tmp_path: Path) -> None:
    a, b, c = SETS
    full = read([written(tmp_path / "full", {"s0": {a: 2.0, b: 0.0}, "s1": {a: 4.0, b: 1.0}})])
    this = read([written(tmp_path / "this", {"s0": {a: 1.0, b: 3.0, c: 1.0}, "s1": {b: 5.0}})])
    rows = means(
        Cell("m", "d", "lofi", "0.5"), this.at(np.arange(2), (a, b)), full.at(np.arange(2), (a, b))
    ).to_pylist()
    found = {(row["site"], row["centred"]): row for row in rows if row["statistic"] == "ipr"}
    names = ("value", "full_value", "delta", "dlog", "n", "n_dlog")
    assert [found["projector", False][name] for name in names] == [1, 2, -1, pytest.approx(-math.log(2)), 1, 1]
    assert [found["projector", True][name] for name in names] == [4, 0.5, 3.5, pytest.approx(math.log(5)), 2, 1]
    assert len(rows) == 2 * len(STATISTICS)


@pytest.mark.parametrize("n", [1, 3, 5000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_are_exact_enough_and_the_same_in_any_order(n: int, dtype: type) -> None:
    rng = np.random.default_rng(n)
    values = np.stack([rng.normal(size=n), 1e6 * rng.random(n), 1e-8 * rng.normal(size=n), np.zeros(n)]).astype(dtype)
    found = totals(values)
    assert (totals(values[:, rng.permutation(n)]) == found).all()
    for row, total in zip(values, found, strict=True):
        assert total == pytest.approx(math.fsum(row), rel=0, abs=3e-16 * n * float(np.abs(row).max()))
