"""One pass over the answers, block by block: every interval, comparison and rank from the same draws."""

import duckdb
import pyarrow as pa

from lofi.stats import comparisons, intervals, ranking
from lofi.stats.blocks import blocks


def resample(con: duckdb.DuckDBPyConnection) -> None:
    """Make the tables `comparisons` and `ranks`, and `intervals` and `method_intervals` for the SQL that joins them.

    Of all cells in `grid`, from the tables `clusters` and `outcomes`. One block is in memory at a time.
    """
    of_cells, of_methods = [], []
    compared: list[comparisons.Comparison] = []
    ranked: list[ranking.Rank] = []
    for block in blocks(con):
        of_cells.append(intervals.of_cells(block))
        of_methods.append(intervals.of_methods(block))
        compared += comparisons.compared(block)
        ranked += ranking.ranked(block)
    con.register("intervals", pa.concat_tables(of_cells))
    con.register("method_intervals", pa.concat_tables(of_methods))
    con.register("compared", comparisons.as_table(compared))
    con.register("ranked", ranking.as_table(ranked))
    con.execute("CREATE TABLE comparisons AS FROM compared")
    con.execute("CREATE TABLE ranks AS FROM ranked")
    con.unregister("compared")
    con.unregister("ranked")
