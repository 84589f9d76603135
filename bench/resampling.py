"""Made-up answers of 2,000 cells of 5,000 samples each, as the tables that resampling reads."""

import statistics

import duckdb
import numpy as np
from item import Item, item_of, seconds

from lofi.stats.resample import DRAWS
from lofi.stats.uncertainty import resample

MODELS, DATASETS, KEEPS, METHODS = 4, 5, 5, 20
SAMPLES, IMAGES = 5000, 4000


def made_up() -> duckdb.DuckDBPyConnection:
    """A database with `grid`, `outcomes` and `clusters`; a fifth of the answers change, half of these for the worse."""
    con = duckdb.connect()
    con.execute(f"""
        CREATE TABLE grid AS
        SELECT
            row_number() OVER (ORDER BY m, d, k, t)::INTEGER AS cell_id, 'model-' || m AS model,
            'dataset-' || d AS dataset, format('0.{{}}000', k + 1) AS keep, 'method-' || t AS method, 0 AS seed
        FROM range({MODELS}) AS a(m), range({DATASETS}) AS b(d), range({KEEPS}) AS c(k), range({METHODS}) AS e(t)
    """)
    con.execute(f"""
        CREATE TABLE outcomes AS
        SELECT
            cell_id, i AS sample, i % {IMAGES} AS cluster, true AS ok,
            h >= 20 AS agrees, i % 4 > 0 AS full_correct, CASE WHEN h < 10 THEN false ELSE i % 4 > 0 END AS correct
        FROM (SELECT cell_id, i, hash(cell_id, i) % 100 AS h FROM grid, range({SAMPLES}) AS a(i))
    """)
    con.execute("""
        CREATE TABLE clusters AS
        SELECT
            dataset, cell_id, cluster,
            count(*) AS n, count_if(agrees) AS n_agree, count(*) AS n_graded, count_if(correct) AS n_correct,
            count_if(full_correct AND NOT correct) AS n_neg_flip, count_if(full_correct) AS n_full_correct
        FROM outcomes JOIN grid USING (cell_id)
        GROUP BY dataset, cell_id, cluster
    """)
    return con


def gathered(con: duckdb.DuckDBPyConnection, cell: int) -> list[np.ndarray]:
    """The percentile intervals of three rates of one cell, each draw's images gathered by their numbers."""
    rows = con.execute("SELECT * FROM clusters WHERE cell_id = ? ORDER BY cluster", [cell]).fetchnumpy()
    drawn = np.random.default_rng(0).integers(0, IMAGES, size=(DRAWS, IMAGES))
    parts = (("n_agree", "n"), ("n_correct", "n_graded"), ("n_neg_flip", "n_graded"))
    rates = [rows[hits][drawn].sum(axis=1) / rows[samples][drawn].sum(axis=1) for hits, samples in parts]
    return [np.quantile(rate, [0.025, 0.975]) for rate in rates]


def resampling_vs_gathering() -> Item:
    """Intervals, comparisons and ranks of 2,000 cells of 5,000 samples: one product of matrices for all cells."""
    con = made_up()
    n_cells = con.execute("SELECT count(*) FROM grid").fetchall()[0][0]
    taken = seconds(lambda: resample(con))
    each = [seconds(lambda cell=cell: gathered(con, cell)) for cell in range(1, 6)]
    ratio = statistics.fmean(each) * n_cells / taken
    reference = f"intervals by gathering {IMAGES} drawn images a cell; the {n_cells} cells took {taken:.1f} s"
    return item_of("resampling_vs_gathering", [ratio], reference)
