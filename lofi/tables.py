"""The tables of the aggregate stage, opened to be read with SQL."""

import math
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from lofi.errors import UserError

Row = dict[str, Any]


class Tables:
    """A folder of tables, each a view of its name; `with` closes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.connection = duckdb.connect()
        self.connection.execute("SET threads = 2")
        self.names = open_views(self.connection, folder)

    def __enter__(self) -> "Tables":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    def rows(self, sql: str) -> list[Row]:
        """What one SELECT finds, in the order that it asks for."""
        try:
            self.connection.execute(sql)
        except (duckdb.CatalogException, duckdb.BinderException) as error:
            raise UserError(f"{self.folder} lacks what is read from it; make it again with: lofi aggregate") from error
        names = [column[0] for column in self.connection.description or ()]
        return [dict(zip(names, map(plain, row), strict=True)) for row in self.connection.fetchall()]


def open_views(connection: duckdb.DuckDBPyConnection, folder: Path) -> frozenset[str]:
    """Make a view of each Parquet file in the folder; their names. They are scans that Arrow makes, so that a database
    whose own access to files is shut can read them.
    """
    files = sorted(folder.glob("[!.]*.parquet"))
    if not files:
        raise UserError(f"there are no tables in {folder}; make them with: lofi aggregate")
    for file in files:
        try:
            connection.register(file.stem, ds.dataset(file))
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{file} cannot be read; make the tables again with: lofi aggregate") from error
    return frozenset(file.stem for file in files)


def plain(value: Any) -> Any:
    """Take an exact decimal as a float, and what is not a finite number as None."""
    value = float(value) if isinstance(value, Decimal) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"
