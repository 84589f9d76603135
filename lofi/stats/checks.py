"""What must hold before cells may be compared; anything else is an error that names the cell."""

from pathlib import Path

import duckdb

from lofi.cell import Cell
from lofi.errors import UserError
from lofi.store import SAMPLES, SCHEMA_VERSION

# {cell}, {samples}, {ids}: which cell, how many samples, a few of their ids. {difference}: what `SETTINGS` differ.
MESSAGES = {
    "no_full": "{place} has no full cell to compare with; evaluate the method 'full' there",
    "many_full": "{place} has more than one full cell; keep one keep and one seed of it",
    "many_floor": "{place} has more than one floor cell; keep one keep and one seed of it",
    "repeated": "{cell} holds {samples} more than once ({ids}); give each shard once",
    "foreign_ids": "{cell} holds {samples} that its full cell lacks ({ids}); evaluate both on the same samples",
    "absent_ids": "{cell} lacks {samples} of its full cell ({ids}); evaluate both on the same samples",
    "other_doc": "{cell} has {samples} whose question or image is not the full cell's ({ids});"
    " evaluate both from the same prepared dataset",
    "other_target": "{cell} has {samples} graded by another right answer than in the full cell ({ids});"
    " redo the scores with `lofi rescore`",
    "other_scorer": "{cell} has {samples} with {difference} ({ids}); redo the scores with `lofi rescore`",
    "other_setting": "{cell} has {samples} with {difference} ({ids}); evaluate both again under one config",
    "other_cluster": "{cell} has {samples} in another cluster than in the full cell ({ids});"
    " evaluate both from the same prepared dataset",
    "regraded": "{cell} has {samples} with the full cell's answer but another grade ({ids});"
    " evaluate both with the same lofi",
    "two_scorers": "dataset {dataset} is graded by {scorers}; redo the scores with `lofi rescore`",
    "not_finite": "{cell} has {samples} whose divergence from the full cell is not finite ({ids});"
    " evaluate it again in float32",
}

# Columns of the table `settings`, as a message calls them.
SETTINGS = {
    "scorer": "scorer",
    "scoring_mode": "scoring mode",
    "prompt_style": "prompt style",
    "template_hash": "conversation template",
    "image_mode": "image mode",
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
    problem, cell_id, model, dataset, method, keep, seed, n, ids = found[0]
    difference = ""
    if problem == "other_setting":
        problem, difference = _difference(con, cell_id)
    message = MESSAGES[problem].format(
        cell=Cell(model, dataset, method, keep, seed),
        place=f"{model} / {dataset}",
        dataset=dataset,
        samples="1 sample" if n == 1 else f"{n} samples",
        ids=", ".join(ids or []) + (", ..." if ids and n > len(ids) else ""),
        difference=difference,
        scorers=_scorers(con, dataset),
    )
    more = f" (the first of {len(found)} such problems)" if len(found) > 1 else ""
    raise UserError(message + more)


def _difference(con: duckdb.DuckDBPyConnection, cell_id: int) -> tuple[str, str]:
    """Name the settings of one sample of a cell that are not those of the full cell, and the problem they make."""

    def columns(table: str) -> str:
        return ", ".join(f"{table}.{name}" for name in SETTINGS)

    found = con.execute(
        f"SELECT {columns('this')}, {columns('reference')} FROM paired"
        " JOIN settings AS this USING (setting) JOIN settings AS reference ON reference.setting = full_setting"
        " WHERE cell_id = ? AND ok AND setting <> full_setting ORDER BY sample_id, setting LIMIT 1",
        [cell_id],
    ).fetchall()[0]
    pairs = zip(SETTINGS, found[: len(SETTINGS)], found[len(SETTINGS) :], strict=True)
    differ = {name: (this, reference) for name, this, reference in pairs if this != reference}
    parts = [f"{SETTINGS[name]} {this} (its full cell: {reference})" for name, (this, reference) in differ.items()]
    return "other_scorer" if list(differ) == ["scorer"] else "other_setting", ", ".join(parts)


def _scorers(con: duckdb.DuckDBPyConnection, dataset: str) -> str:
    """Name the scorers of each model's full answers to a dataset."""
    found = con.execute("SELECT scorer, model FROM full_scorers WHERE dataset = ? ORDER BY cell_id, scorer", [dataset])
    return " and by ".join(f"{scorer} ({model})" for scorer, model in found.fetchall())
