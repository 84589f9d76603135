"""Sample files to tables: the SQL in this folder, plus resampling, in one DuckDB database."""

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from lofi import store
from lofi.errors import UserError
from lofi.scratch import scratch
from lofi.stats import (
    certificates,
    checks,
    forecast,
    intervals,
    pair_measures,
    points,
    self_agreement,
    spectral_tables,
    uncertainty,
)
from lofi.stats.metrics import declare
from lofi.stats.sql import run_sql

TABLES = (
    "cells",
    "measures",
    "margins",
    "calibration",
    "averages",
    "metrics",
    "spectra",
    "correlations",
    "sample_shifts",
    "beyond_margin",
    "forecast",
    "forecast_cells",
    "methods",
    "comparisons",
    "ranks",
    "flips",
    "categories",
    "stability",
    "risks",
    "certificates",
    "timings",
    "runs",
)


def aggregate(
    files: Sequence[Path],
    tables: Path,
    database: Path,
    *,
    metrics: Mapping[str, Sequence[str]] | None = None,
    stability: Sequence[Path] = (),
    random: Sequence[str] = ("random",),
    progress: Callable[[str], None] = lambda message: None,
    memory_limit: str = "3GB",
    threads: int | None = None,
) -> None:
    """Write `tables`/{cells,spectra,...}.parquet, and `database` with the same tables and a view `samples`.

    files: of samples. metrics: by dataset, names of `lofi.scoring.figures.METRICS`; accuracy where there are none.
    stability: the files of self-agreement; without them the table `stability` has no rows. random: the methods that
    drop tokens at random, the baseline of every spectral shift.
    Nothing at the targets changes before all of it is ready. The same files give the same bytes of Parquet.
    """
    if not files:
        raise UserError("there are no sample files to aggregate; evaluate a model on a dataset first")
    if missing := [file for file in files if not file.exists()]:
        raise UserError(
            f"{len(missing)} of {len(files)} sample files are missing, the first of them {missing[0]}; run the sweep "
            "to its end, `lofi status` says how far it is"
        )
    with ExitStack() as stack:
        stack.enter_context(_saying_when_full(database))
        tables_made = stack.enter_context(scratch(tables / "aggregate"))
        made = stack.enter_context(scratch(database.parent / "aggregate"))
        con = stack.enter_context(duckdb.connect(made / database.name))
        con.execute(f"SET memory_limit = '{memory_limit}'")
        con.execute("SET parquet_metadata_cache = true")
        con.execute(f"SET temp_directory = {_quoted(made / 'spill')}")
        if threads:
            con.execute(f"SET threads = {threads}")
        _open_samples(con, files, tables)
        self_agreement.open_rows(con, stability)
        con.execute("SET VARIABLE random_methods = ?::VARCHAR[]", [list(random)])
        if broken := store.first_broken([*files, *stability]):  # DuckDB verifies no checksum
            raise UserError(f"{broken} cannot be read to its end, or has changed since; delete it and evaluate again")
        _build(con, metrics or {}, progress)
        for name in TABLES:
            target = _quoted(tables_made / f"{name}.parquet")
            con.execute(f"COPY {name} TO {target} (FORMAT parquet, COMPRESSION zstd)")
        con.close()
        # Without `runs`, which comes back last, there is no report: after a kill, old tables may lie beside new ones.
        (tables / "runs.parquet").unlink(missing_ok=True)
        for name in sorted(TABLES, key="runs".__eq__):
            _publish(tables_made / f"{name}.parquet", tables / f"{name}.parquet")
        _publish(made / database.name, database)
    progress(f"{len(TABLES)} tables in {tables}")


def _build(
    con: duckdb.DuckDBPyConnection, metrics: Mapping[str, Sequence[str]], progress: Callable[[str], None]
) -> None:
    """All tables, in the order in which they need each other."""
    run_sql(con, "macros")
    checks.check_schema(con)
    progress("reading answers")
    run_sql(con, "answers")
    progress("checking that every cell holds the samples of its full cell")
    checks.check(con)
    progress("comparing answers")
    run_sql(con, "outcomes")
    progress("resampling images")
    uncertainty.resample(con)
    run_sql(con, "methods")
    progress("counting the figures of datasets")
    declare(con, metrics)
    run_sql(con, "ratios")
    con.register("figure_intervals", intervals.of_figures(con))
    run_sql(con, "metrics")
    progress("bounding risks")
    certificates.make(con)
    progress("comparing spectra")
    run_sql(con, "runs")
    found = spectral_tables.make(con)
    con.register("spectral_means", found.means)
    run_sql(con, "spectra")
    _keep(con, {"sample_shifts": found.sample_shifts, "beyond_margin": found.beyond_margin})
    for name in ("cells", "timings", "categories", "flips"):
        run_sql(con, name)
    progress("measuring logits, texts and calibration")
    pair_measures.make(con)
    for name in ("margins", "answer_measures", "calibration", "measures", "averages"):
        run_sql(con, name)
    progress("comparing what is kept under rounded features")
    run_sql(con, "kept_sets")
    con.register("stability_intervals", self_agreement.intervals(con))
    run_sql(con, "stability")
    _explain(con, progress)


def _explain(con: duckdb.DuckDBPyConnection, progress: Callable[[str], None]) -> None:
    """Make the tables about what goes with changed answers: of cells, and on data not yet seen."""
    progress("correlating spectra with agreement")
    run_sql(con, "points")
    con.register("tests", points.tests(con))
    run_sql(con, "correlations")
    progress("forecasting agreement without labels")
    run_sql(con, "forecast")
    _keep(con, dict(zip(("forecast", "forecast_cells"), forecast.forecast(forecast.read(con)), strict=True)))


def _keep(con: duckdb.DuckDBPyConnection, made: Mapping[str, pa.Table]) -> None:
    """Make tables of what was made outside of SQL."""
    for name, table in made.items():
        con.register(f"made_{name}", table)
        con.execute(f"CREATE TABLE {name} AS FROM made_{name}")


def _open_samples(con: duckdb.DuckDBPyConnection, files: Sequence[Path], tables: Path) -> None:
    """Make the view `samples` over exactly these files, and `stamps`: what each of them says of itself."""
    paths = sorted({file.resolve() for file in files})
    con.register("stamps", pa.Table.from_pylist([_stamp(path, tables.resolve().parent) for path in paths]))
    con.execute("SET VARIABLE sample_files = (SELECT list(file ORDER BY file) FROM stamps)")
    listed = ", ".join(map(_quoted, paths))
    con.execute(
        f"CREATE VIEW samples AS FROM read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"
    )


def _stamp(file: Path, results: Path) -> dict[str, str | None]:
    """Say where a file is, from the results folder so that it can move as a whole, and what made it."""
    try:
        schema = pq.read_schema(file)
        metadata, odd = store.metadata_of(schema), store.odd_columns(schema)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}); delete it and evaluate again") from error
    if odd:  # a union would fill in nulls
        raise UserError(f"{file} {odd}; delete it and evaluate again with this lofi")
    return {
        "file": str(file),
        "path": os.path.relpath(file, results).replace(os.sep, "/"),
        "key": metadata["key"] if isinstance(metadata.get("key"), str) else None,
        "provenance": json.dumps(metadata, sort_keys=True),
    }


def _quoted(text: str | Path) -> str:
    """Text or a path as a SQL literal."""
    return "'" + str(text).replace("'", "''") + "'"


@contextmanager
def _saying_when_full(database: Path) -> Iterator[None]:
    """A full disk as the error that it is everywhere else: DuckDB has but one kind for all that files refuse."""
    try:
        yield
    except duckdb.Error as error:
        if (full := os.strerror(errno.ENOSPC)) not in str(error):
            raise
        raise OSError(errno.ENOSPC, full, str(database)) from error


def _publish(made: Path, target: Path) -> None:
    """Give a finished file its name."""
    with open(made, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(made, target)
