"""The correlations of every spectral change with agreement, in three scopes."""

import duckdb
import numpy as np
import pyarrow as pa

from lofi.stats.correlate import Correlations, correlate
from lofi.stats.resample import Floats, Integers

SEED = 0
SCOPES = ("pooled", "within_model_dataset", "within_model_dataset_keep")
NUMBERS = ("pearson", "low", "high", "spearman", "p")
TESTS = pa.schema(
    [
        ("scope", pa.string()),
        ("variable", pa.int32()),
        ("n_cells", pa.int64()),
        ("n_groups", pa.int64()),
        *((name, pa.float64()) for name in NUMBERS),
        ("resampled", pa.string()),
        ("note", pa.string()),
    ]
)


def tests(con: duckdb.DuckDBPyConnection) -> pa.Table:
    """One row per scope and variable of the table `points`."""
    cells = con.execute(
        "SELECT DISTINCT point, agreement, model_dataset, model_dataset_keep FROM points ORDER BY point"
    ).fetchnumpy()
    parts: list[pa.Table] = []
    if len(cells["point"]):
        y = np.asarray(cells["agreement"], dtype=np.float64)
        blocks = np.asarray(cells["model_dataset"], dtype=np.int64)
        groups = {
            "pooled": np.zeros_like(blocks),
            "within_model_dataset": blocks,
            "within_model_dataset_keep": np.asarray(cells["model_dataset_keep"], dtype=np.int64),
        }
        x = _changes(con, len(y))
        for scope in SCOPES:
            parts += _scope(scope, x, y, groups[scope], blocks)
    return pa.concat_tables([TESTS.empty_table(), *parts])


def _scope(scope: str, x: Floats, y: Floats, groups: Integers, blocks: Integers) -> list[pa.Table]:
    """Variables that are measured in the same cells go together: they share groups, shuffles and draws."""
    patterns, membership = np.unique(np.isfinite(x), axis=1, return_inverse=True)
    parts = []
    for at, cells in enumerate(patterns.T):
        variables = np.flatnonzero(membership.ravel() == at)
        found = correlate(x[np.ix_(cells, variables)], y[cells], groups[cells], blocks[cells], seed=SEED)
        parts.append(_as_table(scope, variables, found))
    return parts


def _changes(con: duckdb.DuckDBPyConnection, n: int) -> Floats:
    """Lay out the matrix (points, variables) of the changes, NaN where there is none."""
    rows = con.execute("SELECT point, variable, change FROM points").fetchnumpy()
    x = np.full((n, int(rows["variable"].max()) + 1), np.nan)
    x[rows["point"], rows["variable"]] = np.ma.filled(rows["change"], np.nan)
    return x


def _as_table(scope: str, variables: Integers, found: Correlations) -> pa.Table:
    n = len(variables)
    columns = {
        "scope": [scope] * n,
        "variable": variables,
        "n_cells": [found.n_cells] * n,
        "n_groups": [found.n_groups] * n,
        **{name: pa.array(getattr(found, name), pa.float64(), from_pandas=True) for name in NUMBERS},
        "resampled": [found.resampled] * n,
        "note": found.note,
    }
    return pa.table(columns, schema=TESTS)
