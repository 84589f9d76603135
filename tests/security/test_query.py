"""`lofi query` reads the tables and the samples behind them. Nothing else is in its reach, to read or to write."""

import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lofi.errors import UserError
from lofi.stats.aggregate import aggregate
from lofi.stats.query import query
from lofi.store import read_metadata, write_table
from tests.unit.synthetic import make_sweep, write_sweep

SECRET = "planted-secret-4711"
WRITES = [  # to a path that is put in place of {}
    "COPY cells TO '{}'",
    "EXPLAIN ANALYZE COPY cells TO '{}'",
    "EXPLAIN ANALYZE COPY cells TO '{}' (USE_TMP_FILE false)",
    "WITH x AS (COPY cells TO '{}') SELECT * FROM x",
    "WITH x AS (COPY cells TO '{}' (USE_TMP_FILE false)) SELECT * FROM x",
    "WITH x AS (COPY samples TO '{}' (FORMAT csv, USE_TMP_FILE false)) SELECT * FROM x",
    "SELECT * FROM query('WITH x AS (COPY cells TO ''{}'' (USE_TMP_FILE false)) SELECT * FROM x')",
    "SELECT * FROM enable_logging(storage = 'file', storage_path = '{}')",
    "SELECT * FROM enable_profiling(save_location = '{}')",
    "ATTACH '{}' AS other",
    "EXPORT DATABASE '{}'",
]
READS = [
    "SELECT * FROM '{}'",
    "SELECT * FROM read_text('{}')",
    "SELECT content::VARCHAR FROM read_blob('{}')",
    "SELECT * FROM read_csv('{}')",
    "SELECT * FROM read_json('{}')",
    "SELECT * FROM read_parquet('{}')",
    "SELECT * FROM sniff_csv('{}')",
    "SELECT * FROM glob('{}*')",
    "SELECT * FROM query('SELECT * FROM read_text(''{}'')')",
    "SELECT * FROM query_table('{}')",
]
OTHERS = [
    "SELECT getenv('PLANTED')",
    "SELECT * FROM planted",  # a Python variable of the caller
    "SET enable_external_access = true",
    "EXPLAIN ANALYZE SET enable_external_access = true",
    "SELECT * FROM read_parquet('https://example.invalid/a.parquet')",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SELECT * FROM duckdb_secrets()",
    "CREATE TABLE x AS SELECT 1",
    "PRAGMA database_list",
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("query") / "results"
    sweep = make_sweep(models=("tiny-a",), datasets=("scenes-yesno",), keeps=("0.2500",), images=3)
    aggregate(write_sweep(sweep, results, shards=1), results / "tables", results / "audit.duckdb")
    return results


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("where", ["outside", "a table", "a sample file", "the working directory"])
@pytest.mark.parametrize("sql", WRITES)
def test_nothing_is_written(
    sql: str, where: str, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    targets = {
        "outside": str(tmp_path / "written"),
        "a table": str(results / "tables" / "cells.parquet"),
        "a sample file": str(next(results.glob("samples/**/*.parquet"))),
        "the working directory": "written",
    }
    before = contents(results)
    with pytest.raises(UserError):
        query(sql.format(targets[where]), results / "tables")
    assert contents(results) == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sql", READS)
def test_nothing_else_is_read(sql: str, results: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text(f"{SECRET}\n{SECRET}\n")
    for path in (secret, Path("/proc/self/environ"), results / "tables" / "cells.parquet"):
        with pytest.raises(UserError) as caught:
            query(sql.format(path), results / "tables")
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize("sql", OTHERS)
def test_nothing_else_is_done(sql: str, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED", SECRET)
    planted = pa.table({"secret": [SECRET]})
    with pytest.raises(UserError) as caught:
        query(sql, results / "tables")
    assert SECRET not in str(caught.value)
    assert planted.num_rows == 1


@pytest.mark.parametrize("path", ["/etc/passwd", "../../secret.parquet", "samples/../../secret.parquet"])
def test_a_table_cannot_name_sample_files_elsewhere(path: str, results: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(results, tmp_path / "results")
    pq.write_table(pa.table({"secret": [SECRET]}), tmp_path / "secret.parquet")
    runs = pq.read_table(mine / "tables" / "runs.parquet")
    at = runs.column_names.index("path")
    changed = runs.set_column(at, "path", pa.array([path] * runs.num_rows))
    write_table(changed, mine / "tables" / "runs.parquet", read_metadata(mine / "tables" / "runs.parquet"))
    with pytest.raises(UserError, match="which is not below"):
        query("SELECT * FROM samples", mine / "tables")


def test_a_damaged_sample_file_is_one_line(results: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(results, tmp_path / "results")
    for file in mine.glob("samples/**/*.parquet"):
        os.truncate(file, 100)
    with pytest.raises(UserError) as caught:
        query("SELECT count(prediction) FROM samples", mine / "tables")
    assert "\n" not in str(caught.value)
