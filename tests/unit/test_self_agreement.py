"""Self-agreement: from the rows of `lofi stability` to the table."""

from collections import defaultdict
from statistics import fmean

import duckdb
import pyarrow.parquet as pq
import pytest

from lofi.errors import UserError
from lofi.stats.aggregate import aggregate
from tests.unit.synthetic import make_stability, make_sweep, write_stability, write_sweep

KEY = ("model", "dataset", "method", "keep", "variant")


@pytest.fixture(scope="module")
def sweep():
    return make_sweep(models=("tiny-a", "tiny-b"), datasets=("scenes-yesno", "scenes-open"), keeps=("0.5000", "16"))


def aggregated(sweep, rows, results, **options):
    stability = write_stability(rows, results)
    aggregate(
        write_sweep(sweep, results, shards=1),
        results / "tables",
        results / "audit.duckdb",
        stability=stability[:: options.pop("step", 1)],
        **options,
    )
    return pq.read_table(results / "tables" / "stability.parquet").to_pylist()


def test_the_table_equals_a_slow_computation(sweep, tmp_path):
    rows = make_stability(sweep)
    expected = defaultdict(list)
    for row in rows:
        expected[tuple(row[name] for name in KEY)].append(row)
    found = {tuple(row[name] for name in KEY): row for row in aggregated(sweep, rows, tmp_path)}
    assert list(found) == sorted(expected)
    assert any(row["n_errors"] for row in found.values())
    for key, row in found.items():
        good = [each for each in expected[key] if each["status"] == "ok"]
        overlaps = [each["n_same"] / each["n_kept"] for each in good]
        assert row["n_images"] == len({each["image_hash"] for each in good})
        assert row["n_errors"] == len(expected[key]) - len(good)
        assert row["overlap"] == pytest.approx(fmean(overlaps), abs=1e-9)
        assert row["worst"] == pytest.approx(min(overlaps), abs=1e-9)
        assert row["identical"] == pytest.approx(fmean(overlap == 1 for overlap in overlaps))
        assert row["overlap_low"] <= row["overlap"] <= row["overlap_high"]
        assert (row["overlap_high"] == 1) == (max(overlaps) == 1)
    with duckdb.connect(tmp_path / "audit.duckdb", read_only=True) as con:
        assert con.table("stability").to_arrow_table().to_pylist() == list(found.values())


def test_images_are_what_is_resampled(sweep, tmp_path):
    """Two seeds on one image are no second image."""
    row = make_stability(sweep)[0] | {"status": "ok", "error": None, "n_kept": 4, "n_kept_variant": 4}
    rows = [row | {"seed": seed, "n_same": same} for seed, same in ((0, 4), (1, 3))]
    (found,) = aggregated(sweep, rows, tmp_path)
    assert (found["n_images"], found["overlap"], found["identical"], found["worst"]) == (1, 0.875, 0.5, 0.75)
    assert found["overlap_low"] is found["overlap_high"] is None


@pytest.mark.parametrize(
    ("counts", "overlap", "identical"),
    [((0, 0, 0), 1, 1), ((0, 0, 2), 0, 0), ((2, 2, 3), 1, 0), ((2, 0, 0), 0, 0)],
    ids=["none, as before", "none before", "one more", "none now"],
)
def test_counts_that_differ_and_empty_sets(sweep, tmp_path, counts, overlap, identical):
    row = make_stability(sweep)[0] | dict(zip(("n_kept", "n_same", "n_kept_variant"), counts, strict=True))
    (found,) = aggregated(sweep, [row | {"status": "ok"}], tmp_path)
    assert (found["overlap"], found["identical"]) == (overlap, identical)


def test_what_failed_everywhere_is_null(sweep, tmp_path):
    rows = [row | {"status": "error", "n_kept": None} for row in make_stability(sweep)]
    for row in aggregated(sweep, rows, tmp_path):
        assert row["n_images"] == 0 < row["n_errors"]
        assert [row[name] for name in ("overlap", "overlap_low", "identical", "worst")] == [None] * 4


def test_without_files_the_table_is_empty(sweep, tmp_path):
    assert aggregated(sweep, [], tmp_path) == []


def test_same_files_give_the_same_bytes(sweep, tmp_path):
    written = []
    for name, threads, step in (("a", 1, 1), ("b", 4, -1)):
        aggregated(sweep, make_stability(sweep), tmp_path / name, threads=threads, step=step)
        written.append((tmp_path / name / "tables" / "stability.parquet").read_bytes())
    assert written[0] == written[1]


def test_a_file_that_is_missing_broken_or_foreign_is_named(sweep, tmp_path):
    files = write_sweep(sweep, tmp_path, shards=1)
    absent, broken = tmp_path / "absent.parquet", tmp_path / "broken.parquet"
    broken.write_bytes(b"no Parquet")
    for file, said in ((absent, "cannot be read"), (broken, "cannot be read"), (files[0], "lacks the columns variant")):
        with pytest.raises(UserError, match=rf"{file.name} {said}.*run `lofi stability`") as raised:
            aggregate(files, tmp_path / "tables", tmp_path / "audit.duckdb", stability=[file])
        assert "\n" not in str(raised.value)
