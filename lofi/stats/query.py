"""SQL over the tables, for `lofi query`."""

import csv
import io
import json
import re
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

import duckdb
import pyarrow.dataset as ds

from lofi.errors import UserError, unknown
from lofi.store import SAMPLES
from lofi.tables import open_views, plain

FORMATS = ("table", "csv", "json")
READING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


def query(sql: str, tables: Path, format: str = "table") -> str:
    """Answer one SELECT over the tables (cells, spectra, ...) and `samples`, as text.

    `samples` are the sample files that the table `runs` lists. The database has no other file in its reach, to read
    or to write, and no network: what it is given are scans that Arrow makes.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    with tempfile.TemporaryDirectory() as spill, duckdb.connect() as con:
        open_views(con, tables)
        try:
            statements = con.extract_statements(sql)
            if len(statements) != 1 or statements[0].type not in READING:
                raise UserError("a query is one statement that reads, such as: SELECT * FROM cells LIMIT 5")
            if re.search(r"\bsamples\b", sql, re.IGNORECASE):
                _open_samples(con, tables)
            _shut(con, spill)
            con.execute(statements[0])
            names = [column[0] for column in con.description or []]
            rows = [tuple(map(plain, row)) for row in con.fetchall()]
        except duckdb.Error as error:
            raise UserError(_one_line(error)) from error
    return {"table": as_table, "csv": as_csv, "json": as_json}[format](names, rows)


def _shut(con: duckdb.DuckDBPyConnection, spill: str) -> None:
    """Take everything out of the database's reach but what is open; `spill` is where it may put what it cannot hold.

    The type of a statement does not tell whether it writes: a COPY may stand in a SELECT's WITH.
    """
    con.execute("SET temp_directory = ?", [spill])
    con.execute("SET python_enable_replacements = false")  # else names of Python's variables are tables, too
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")


def _open_samples(con: duckdb.DuckDBPyConnection, tables: Path) -> None:
    """Make the view `samples` over the files that `runs` lists, whose paths start beside the tables."""
    results = tables.resolve().parent
    paths = [PurePosixPath(path) for (path,) in con.execute("SELECT path FROM runs").fetchall()]
    if outside := [path for path in paths if path.is_absolute() or ".." in path.parts]:
        raise UserError(f"the table runs names {outside[0]}, which is not below {results}; run lofi aggregate again")
    files = [results / path for path in paths]
    if missing := [file for file in files if not file.exists()]:
        raise UserError(f"{len(missing)} sample files are gone ({missing[0]}, ...); aggregate what is there")
    con.register("samples", ds.dataset(files, schema=SAMPLES))


def _one_line(error: duckdb.Error) -> str:
    """Take a DuckDB error without its drawing of the place."""
    lines = [line.strip() for line in str(error).split("\n\nLINE ")[0].splitlines()]
    return " ".join(line for line in lines if line)


def as_table(names: list[str], rows: list[tuple[Any, ...]]) -> str:
    """Align columns: numbers to the right, six digits."""
    texts = [[_text(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *texts, strict=True)]
    right = [any(type(row[at]) in (int, float) for row in rows) for at in range(len(names))]
    lines = [
        "  ".join(
            text.rjust(width) if at_right else text.ljust(width)
            for text, width, at_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in [names, ["-" * width for width in widths], *texts]
    ]
    return "\n".join(lines) + "\n"


def as_csv(names: list[str], rows: list[tuple[Any, ...]]) -> str:
    """Separate by commas, with all digits; NULL is empty."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([names, *rows])
    return text.getvalue()


def as_json(names: list[str], rows: list[tuple[Any, ...]]) -> str:
    """Write a list of objects, one a line."""
    lines = [json.dumps(dict(zip(names, row, strict=True)), default=str, ensure_ascii=False) for row in rows]
    return "[" + ",\n ".join(lines) + "]\n"


def _text(value: object) -> str:
    """One value in a table: a line break or tab inside it becomes a visible escape."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value).replace("\n", "\\n").replace("\t", "\\t")
