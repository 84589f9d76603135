"""The correlations of every spectral change with agreement, in six scopes."""

from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from lofi.stats.correlate import Correlations, Layout, correlate
from lofi.stats.gaps import alike
from lofi.stats.multiplicity import benjamini_hochberg
from lofi.stats.resample import Booleans, Floats, Integers
from lofi.stats.shifts import PRIMARY
from lofi.stats.stored_spectra import TokenSet

SEED = 0
MEASURED = ("pearson", "low", "high", "spearman", "kendall", "p", "p_methods")
TESTS = pa.schema(
    [
        ("scope", pa.string()),
        ("variable", pa.int32()),
        ("primary", pa.bool_()),
        ("n_cells", pa.int64()),
        ("n_groups", pa.int64()),
        *((name, pa.float64()) for name in MEASURED),
        ("p_adjusted", pa.float64()),
        ("resampled", pa.string()),
        ("note", pa.string()),
    ]
)


@dataclass(frozen=True)
class Scope:
    """Which points are correlated inside which groups. The names are columns of the table `points`."""

    kind: str
    groups: str | None  # None: all points are one group
    covariate: str | None = None
    clusters: str | None = None
    methods: str | None = None


# The first three show how much of a correlation the keep makes by itself; `within_model_dataset_keep` is the one that
# compares methods. `random_only` is the correlation where no method chooses tokens.
SCOPES = {
    "pooled": Scope("method", None),
    "within_model_dataset": Scope("method", "model_dataset"),
    "within_model_dataset_keep": Scope("method", "model_dataset_keep", methods="method_id"),
    "partial": Scope("method", "model_dataset", covariate="ln_keep"),
    "random_only": Scope("random", "model_dataset"),
    "excess_over_random": Scope("excess", "model_dataset", clusters="model_dataset_keep"),
}


def tests(con: duckdb.DuckDBPyConnection) -> pa.Table:
    """One row per scope and variable of the table `points`.

    The primary variable is a family of its own; all others of a scope are adjusted together.
    """
    variables = con.execute(
        "SELECT DISTINCT variable, site, tokens, centred, statistic, delta FROM points ORDER BY variable"
    ).fetchall()
    primary = np.array([(TokenSet(*of), name) == PRIMARY and delta == "dlog" for _, *of, name, delta in variables])
    parts = []
    if variables:
        parts = [_scope(name, primary, *_read(con, scope, len(variables))) for name, scope in SCOPES.items()]
    return pa.concat_tables([TESTS.empty_table(), *parts])


def _read(con: duckdb.DuckDBPyConnection, scope: Scope, n_variables: int) -> tuple[Floats, Floats, Layout]:
    """Lay out changes (n, variables), NaN where there is none, agreement (n,), and how points belong together."""
    columns = "point, agreement, ln_keep, model_dataset, model_dataset_keep, method_id"
    found = con.execute(f"SELECT DISTINCT {columns} FROM points WHERE kind = ? ORDER BY point", [scope.kind])
    points = {name: np.ma.filled(values.astype(np.float64), np.nan) for name, values in found.fetchnumpy().items()}
    rows = con.execute("SELECT point, variable, change FROM points WHERE kind = ?", [scope.kind]).fetchnumpy()
    x = np.full((len(points["point"]), n_variables), np.nan)
    x[rows["point"], rows["variable"]] = np.ma.filled(rows["change"], np.nan)

    def whole(column: str) -> Integers:
        return points[column].astype(np.int64)

    layout = Layout(
        groups=whole(scope.groups) if scope.groups else np.zeros(len(x), dtype=np.int64),
        blocks=whole("model_dataset"),
        covariate=points[scope.covariate] if scope.covariate else None,
        clusters=whole(scope.clusters) if scope.clusters else None,
        methods=whole(scope.methods) if scope.methods else None,
    )
    return x, points["agreement"], layout


def _scope(scope: str, primary: Booleans, x: Floats, y: Floats, layout: Layout) -> pa.Table:
    """Variables that are measured in the same cells go together: they share groups, shuffles and draws."""
    present = np.isfinite(x)
    if layout.covariate is not None:
        present &= np.isfinite(layout.covariate)[:, None]
    parts = []
    for cells, variables in alike(present):
        found = correlate(x[np.ix_(cells, variables)], y[cells], layout.at(cells), seed=SEED)
        parts.append(_as_table(scope, variables, primary[variables], found))
    table = pa.concat_tables(parts).sort_by("variable")
    p = table["p"].to_numpy()
    adjusted = np.where(primary, p, benjamini_hochberg(np.where(primary, np.nan, p)))
    column = pa.array(adjusted, pa.float64(), from_pandas=True)
    return table.set_column(TESTS.get_field_index("p_adjusted"), "p_adjusted", column)


def _as_table(scope: str, variables: Integers, primary: Booleans, found: Correlations) -> pa.Table:
    n = len(variables)
    columns = {
        "scope": [scope] * n,
        "variable": variables,
        "primary": primary,
        "n_cells": [found.n_cells] * n,
        "n_groups": [found.n_groups] * n,
        **{name: pa.array(getattr(found, name), pa.float64(), from_pandas=True) for name in MEASURED},
        "p_adjusted": pa.nulls(n, pa.float64()),  # known once all of the scope are
        "resampled": [found.resampled] * n,
        "note": found.note,
    }
    return pa.table({field.name: columns[field.name] for field in TESTS}, schema=TESTS)
