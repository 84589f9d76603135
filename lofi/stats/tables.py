"""Tables that are already made, for the commands that judge them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lofi.errors import UserError


def rows_of(tables: Path, name: str, columns: Sequence[str]) -> list[dict[str, Any]]:
    """These columns of one table; a missing, broken or older table is a user's error."""
    file = tables / f"{name}.parquet"
    if not file.exists():
        raise UserError(f"there is no table {name} in {tables}; make the tables with: lofi aggregate")
    try:
        found: list[dict[str, Any]] = pq.read_table(file, columns=list(columns)).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file} cannot be read; make the tables again with: lofi aggregate") from error
    if not found:
        raise UserError(f"{file} has no row; evaluate a method beside full, then run: lofi aggregate")
    return found
