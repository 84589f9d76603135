"""The changed answers that a reader can look at: which ones, and the questions they answer."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from lofi.errors import UserError
from lofi.tables import Row, plain

MOST = 20_000  # rows; a sweep may have millions
READ = (
    *("model", "dataset", "method", "weights", "keep", "seed", "sample_id", "image_hash", "category", "class"),
    *("full_answer", "reduced_answer", "full_prediction", "reduced_prediction", "margin_full", "margin_reduced", "kl"),
    *("option_labels", "full_option_logprobs", "reduced_option_logprobs", "kept_indices", "n_visual_full"),
)
CLASSES = {
    "neg_flip": "lost",
    "pos_flip": "gained",
    "wrong_to_other": "wrong to other wrong",
    "right_to_other": "right to other right",
    None: "changed, not graded",
}

# Evenly over the groups: the first of every group before the second of any. The hash makes the choice blind to
# the order of sample ids and the same every time; its first letters name a row in links.
CHOICE = f"""
WITH placed AS (
    SELECT
        file_row_number, model, dataset, method, keep, class,
        md5(concat_ws('|', model, dataset, method, keep, seed, sample_id)) AS draw
    FROM read_parquet($flips, file_row_number = true)
),
ranked AS (
    SELECT
        file_row_number, draw,
        row_number() OVER (PARTITION BY model, dataset, method, keep, class ORDER BY draw) AS place
    FROM placed
),
chosen AS (SELECT file_row_number, draw, place FROM ranked ORDER BY place, draw LIMIT $most)
SELECT left(draw, 12) AS id, {", ".join(READ)}
FROM read_parquet($flips, file_row_number = true) AS flips JOIN chosen USING (file_row_number)
ORDER BY place, draw
"""


@dataclass(frozen=True)
class Changes:
    """Rows of the table `flips` in the order in which they were drawn, and what they are about."""

    rows: list[Row]
    questions: dict[tuple[str, str], Row]  # (dataset, sample id) -> its prepared row, empty where there is none


def choose(tables: Path, most: int = MOST) -> list[Row]:
    """At most `most` changed answers, drawn evenly over models, datasets, methods, keeps and classes."""
    source = str(tables / "flips.parquet")
    if lacking := [name for name in READ if name not in pq.read_schema(source).names]:
        raise UserError(f"{source} has no column {lacking[0]}; make the tables again with: lofi aggregate")
    with tempfile.TemporaryDirectory() as spill, duckdb.connect() as connection:
        connection.execute("SET threads = 2")
        connection.execute("SET memory_limit = '1GB'")
        connection.execute(f"SET temp_directory = '{spill}'")
        return _rows(connection.execute(CHOICE, {"flips": source, "most": most}))


def read(tables: Path, data: Path, most: int = MOST) -> Changes:
    """The rows to show and their questions. `data` is the folder of prepared datasets."""
    rows = choose(tables, most)
    wanted: dict[str, dict[str, None]] = {}
    for row in rows:
        wanted.setdefault(row["dataset"], {})[row["sample_id"]] = None
    found = {name: look_up(data / name / "docs.parquet", "sample_id", list(ids)) for name, ids in wanted.items()}
    pairs = dict.fromkeys((row["dataset"], row["sample_id"]) for row in rows)
    return Changes(rows, {(dataset, id): found[dataset].get(id, {}) for dataset, id in pairs})


def look_up(path: Path, column: str, wanted: Sequence[str]) -> dict[str, Row]:
    """The rows of a Parquet file whose `column` is wanted, by that column; nothing where there is no file."""
    if not path.is_file() or not wanted:
        return {}
    with duckdb.connect() as connection:
        connection.register("wanted", pa.table({column: pa.array(wanted, pa.string())}))
        query = f"SELECT found.* FROM read_parquet(?) AS found SEMI JOIN wanted USING ({column})"
        rows = _rows(connection.execute(query, [str(path)]))
    return {row[column]: row for row in rows}


def _rows(result: duckdb.DuckDBPyConnection) -> list[Row]:
    names = [column[0] for column in result.description or ()]
    rows: list[tuple[Any, ...]] = result.fetchall()
    return [dict(zip(names, map(plain, row), strict=True)) for row in rows]
