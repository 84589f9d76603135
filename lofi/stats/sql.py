"""The SQL files beside this module."""

from pathlib import Path

import duckdb


def run_sql(con: duckdb.DuckDBPyConnection, name: str) -> duckdb.DuckDBPyConnection:
    """Run one of them."""
    return con.execute(Path(__file__).with_name(f"{name}.sql").read_text(encoding="utf-8"))
