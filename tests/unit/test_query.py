import csv
import io
import json
import shutil

import pytest

from lofi.errors import UserError
from lofi.stats.aggregate import TABLES, aggregate
from lofi.stats.query import query
from tests.unit.synthetic import make_stability, make_sweep, write_stability, write_sweep


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    results = tmp_path_factory.mktemp("made")
    sweep = make_sweep(models=("tiny-a",), datasets=("scenes-yesno",), keeps=("0.2500",), images=3)
    files = write_sweep(sweep, results, shards=1)
    stability = write_stability(make_stability(sweep), results)
    aggregate(files, results / "tables", results / "audit.duckdb", stability=stability)
    moved = tmp_path_factory.mktemp("moved") / "results"
    shutil.move(results, moved)
    return moved / "tables"


def test_a_plain_table(tables):
    sql = "SELECT 'a' AS name, 0.123456789 AS share, 12 AS n, NULL AS none, true AS yes, 'x\ny' AS text"
    assert query(sql, tables) == (
        "name     share   n  none  yes   text\n"
        "----  --------  --  ----  ----  ----\n"
        "a     0.123457  12  NULL  true  x\\ny\n"
    )


def test_every_table_can_be_asked(tables):
    rows = {name: int(query(f"SELECT count(*) AS n FROM {name}", tables, "csv").split()[1]) for name in TABLES}
    assert {name for name, n in rows.items() if n == 0} == {"forecast_cells"}, "one dataset: nothing to forecast from"


def test_samples_are_found_where_the_results_went(tables):
    sql = "SELECT count(*) AS n FROM Samples JOIN cells USING (model, dataset, method, keep, seed)"
    assert json.loads(query(sql, tables, "json")) == [{"n": 6 * 9}]


def test_csv_has_all_digits(tables):
    text = query("SELECT 1 / 3 AS third, NULL AS none, 'a,\"b' AS text", tables, "csv")
    assert list(csv.reader(io.StringIO(text))) == [["third", "none", "text"], [repr(1 / 3), "", 'a,"b']]


def test_json_is_json(tables):
    rows = json.loads(query("SELECT method, agreement, kl FROM cells ORDER BY method", tables, "json"))
    assert [row["method"] for row in rows] == ["fastv", "floor", "full", "lofi", "random", "random"]
    assert isinstance(rows[0]["kl"], float)
    assert json.loads(query("SELECT 0.5 AS half, 'inf'::DOUBLE AS none", tables, "json")) == [
        {"half": 0.5, "none": None}
    ]
    assert json.loads(query("SELECT * FROM cells WHERE false", tables, "json")) == []


def test_an_empty_answer_has_its_header(tables):
    assert query("SELECT method, n FROM cells WHERE false", tables) == "method  n\n------  -\n"


@pytest.mark.parametrize("sql", ["DESCRIBE cells", "FROM cells LIMIT 1", "SHOW TABLES", "SUMMARIZE categories"])
def test_other_ways_to_read(tables, sql):
    assert query(sql, tables)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT nothing FROM cells", "nothing"),
        ("SELECT * FROM cell", "Did you mean"),
        ("SELEC 1", "syntax error"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("", "one statement"),
        ("DROP VIEW cells", "one statement that reads"),
        ("COPY cells TO 'x.csv'", "one statement that reads"),
    ],
)
def test_bad_sql_is_one_clear_line(tables, sql, said):
    with pytest.raises(UserError, match=said) as caught:
        query(sql, tables)
    assert "\n" not in str(caught.value)


def test_other_mistakes_are_clear(tables, tmp_path):
    with pytest.raises(UserError, match="there are no tables in"):
        query("SELECT 1", tmp_path)
    with pytest.raises(UserError, match="did you mean"):
        query("SELECT 1", tables, "jsn")
    (tmp_path / "cells.parquet").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be read"):
        query("SELECT 1", tmp_path)


def test_missing_sample_files_are_named(tables, tmp_path):
    shutil.copytree(tables, tmp_path / "tables")
    assert query("SELECT count(*) FROM cells", tmp_path / "tables")
    with pytest.raises(UserError, match=r"sample files are gone \(.*shard-0000.parquet"):
        query("SELECT count(*) FROM samples", tmp_path / "tables")
