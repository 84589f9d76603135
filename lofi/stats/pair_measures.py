"""What is measured of logits, texts and confidences: one (model, dataset) at a time, so that memory is bounded."""

import duckdb
import pyarrow as pa

from lofi.stats import calibration, measure_bounds, texts
from lofi.stats.sql import run_sql

# In the order in which they need each other; the last two say what is measured, by cell.
FILES = ("beside_full", "option_samples", "confidences", "logit_measures", "text_measures")
PAIRS = """
SELECT dataset, list(DISTINCT file), list(DISTINCT cell_id ORDER BY cell_id), max(cell_id) FILTER (method = 'floor')
FROM runs JOIN stamps USING (path) JOIN grid USING (model, dataset, method, keep, seed)
GROUP BY dataset, model ORDER BY dataset, model
"""


def make(con: duckdb.DuckDBPyConnection) -> None:
    """Make what the tables `measures` and `calibration` are made from."""
    texts.register(con)
    found: dict[str, list[pa.Table]] = {}
    for dataset, files, cells, floor in con.execute(PAIRS).fetchall():
        con.execute("SET VARIABLE pair_files = ?::VARCHAR[]", [sorted(files)])
        for name in FILES:
            run_sql(con, name)
        made = {name: con.sql(f"FROM {name}").to_arrow_table() for name in FILES[-2:]}
        sure = calibration.read(con)
        made["calibration_bins"], made["calibration_measures"] = calibration.tables(sure)
        made["measure_bounds"] = measure_bounds.bounded(con, dataset, cells, floor, sure)
        for name, table in made.items():
            found.setdefault(name, []).append(table)
    for name in FILES:
        con.execute(f"DROP TABLE {name}")
    for name, parts in found.items():
        con.register(name, pa.concat_tables(parts))
