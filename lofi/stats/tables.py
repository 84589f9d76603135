"""Tables that are already made, for the commands that judge them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lofi.errors import UserError

_NUMBERS = ("n", "n_images", "n_errors", "n_events")
RISKS = pa.schema(
    [
        *((name, pa.string()) for name in ("model", "dataset", "method", "keep", "risk")),
        ("seed", pa.int32()),
        *((name, pa.int64()) for name in _NUMBERS),
        *((name, pa.float64()) for name in ("layer_mean_tokens", "rate", "upper")),
        ("patterns", pa.list_(pa.struct([(name, pa.int32()) for name in ("samples", "events", "images")]))),
    ]
)


def risks_of(tables: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """These columns of the table `risks`; a missing, broken or older table is a user's error."""
    file = tables / "risks.parquet"
    if not file.exists():
        raise UserError(f"there is no table risks in {tables}; make the tables with: lofi aggregate")
    try:
        table = pq.read_table(file, columns=list(columns))
        if [*zip(table.schema.names, table.schema.types, strict=True)] != [(n, RISKS.field(n).type) for n in columns]:
            raise ValueError("it has other columns than this lofi writes")
        found: list[dict[str, Any]] = table.to_pylist()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{file} cannot be read; make the tables again with: lofi aggregate") from error
    if not found:
        raise UserError(f"{file} has no row; evaluate a method beside full, then run: lofi aggregate")
    return found
