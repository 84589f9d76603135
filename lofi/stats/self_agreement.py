"""Self-agreement: how much of what a method keeps stays the same when its features are rounded or noised."""

from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lofi import store
from lofi.errors import UserError
from lofi.stats.resample import DRAWS, dataset_seed, rate_intervals

INTERVALS = pa.schema([("place", pa.int32()), ("overlap_low", pa.float64()), ("overlap_high", pa.float64())])


def open_rows(con: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> None:
    """Make the view `stability_rows` over exactly these files; without any it has no rows."""
    for file in files:
        _check(file)
    if files:
        paths = sorted(str(file.resolve()) for file in files)
        rows = con.read_parquet(paths, union_by_name=True, hive_partitioning=False)
    else:
        plain = [f.with_type(pa.string()) if pa.types.is_dictionary(f.type) else f for f in store.STABILITY]
        rows = con.from_arrow(pa.schema(plain).empty_table())
    con.register("stability_rows", rows)


def _check(file: Path) -> None:
    """Refuse a file that is not there, is broken, or has another schema."""
    again = "run `lofi stability` for its model and dataset, or set stability_images to 0"
    try:
        columns = pq.read_schema(file).names
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file} cannot be read ({error}); {again}") from error
    if missing := [name for name in store.STABILITY.names if name not in columns]:
        raise UserError(f"{file} lacks the columns {', '.join(missing)}; {again}")


def intervals(con: duckdb.DuckDBPyConnection) -> pa.Table:
    """Bootstrap the mean overlap of every place in `kept_sets` over images: all of a dataset on the same draws."""
    parts = []
    blocks = con.execute(
        "SELECT model, dataset, list(DISTINCT place ORDER BY place) FROM kept_sets GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    for model, dataset, places in blocks:
        rows = con.execute(
            "SELECT image, place, sum(overlap) AS overlap, count(*) AS n FROM kept_sets"
            " WHERE model = ? AND dataset = ? AND ok GROUP BY ALL",
            [model, dataset],
        ).fetchnumpy()
        n_images = con.execute("SELECT max(image) + 1 FROM kept_sets WHERE dataset = ?", [dataset]).fetchall()[0][0]
        sums = np.zeros((2, n_images, len(places)))
        at = rows["image"], np.searchsorted(places, rows["place"])
        sums[0][at], sums[1][at] = rows["overlap"], rows["n"]
        low, high = rate_intervals(sums[0], sums[1], DRAWS, dataset_seed(dataset))
        bounds = [pa.array(bound, pa.float64(), from_pandas=True) for bound in (low, high)]  # NaN to NULL
        parts.append(pa.table([pa.array(places, pa.int32()), *bounds], schema=INTERVALS))
    return pa.concat_tables([INTERVALS.empty_table(), *parts])
