"""What must hold before cells may be compared; anything else is an error that names the cell."""

from pathlib import Path

import duckdb

from lofi.cell import Cell
from lofi.errors import UserError
from lofi.store import SAMPLES, SCHEMA_VERSION

# {cell}, {samples}, {ids}: which cell, how many samples, a few of their ids.
MESSAGES = {
    "no_full": "{place} has no full cell to compare with; evaluate the method 'full' there",
    "no_floor": "{place} has no floor cell, so its noise is unknown; evaluate the method 'floor' there",
    "many_full": "{place} has more than one full cell; keep one keep and one seed of it",
    "many_floor": "{place} has more than one floor cell; keep one keep and one seed of it",
    "repeated": "{cell} holds {samples} more than once ({ids}); give each shard once",
    "foreign_ids": "{cell} holds {samples} that its full cell lacks ({ids}); evaluate both on the same samples",
    "absent_ids": "{cell} lacks {samples} of its full cell ({ids}); evaluate both on the same samples",
    "other_doc": "{cell} has {samples} whose question or image is not the full cell's ({ids});"
    " evaluate both from the same prepared dataset",
    "other_scorer": "{cell} has {samples} graded by another scorer version than the full cell's ({ids});"
    " evaluate both with the same lofi",
    "other_cluster": "{cell} has {samples} in another cluster than in the full cell ({ids});"
    " evaluate both from the same prepared dataset",
    "regraded": "{cell} has {samples} with the full cell's answer but another grade ({ids});"
    " evaluate both with the same lofi",
    "not_finite": "{cell} has {samples} whose divergence from the full cell is not finite ({ids});"
    " evaluate it again in float32",
}


def check_schema(con: duckdb.DuckDBPyConnection) -> None:
    """Raise where a sample file has another schema than this lofi writes."""
    columns = {name for name, *_ in con.execute("DESCRIBE samples").fetchall()}
    if missing := [name for name in SAMPLES.names if name not in columns]:
        raise UserError(f"the sample files lack the columns {', '.join(missing)}; evaluate again with this lofi")
    versions = con.execute("SELECT DISTINCT schema_version FROM samples").fetchall()
    if other := sorted(str(version) for (version,) in versions if version != SCHEMA_VERSION):
        raise UserError(
            f"samples of schema version {', '.join(other)} cannot be read by this lofi, which writes"
            f" version {SCHEMA_VERSION}; evaluate again"
        )


def check(con: duckdb.DuckDBPyConnection) -> None:
    """Raise for the first of the problems that `checks.sql` finds."""
    found = con.execute(Path(__file__).with_name("checks.sql").read_text(encoding="utf-8")).fetchall()
    if not found:
        return
    problem, model, dataset, method, keep, seed, n, ids = found[0]
    message = MESSAGES[problem].format(
        cell=Cell(model, dataset, method, keep, seed),
        place=f"{model} / {dataset}",
        samples="1 sample" if n == 1 else f"{n} samples",
        ids=", ".join(ids or []) + (", ..." if ids and n > len(ids) else ""),
    )
    more = f" (the first of {len(found)} such problems)" if len(found) > 1 else ""
    raise UserError(message + more)
