"""Rows of the table `measures` as pages show them: one query, one row per point, bounds beside values."""

from collections.abc import Sequence
from dataclasses import dataclass

from lofi.cell import KEEP_ALL, OWN_COUNT
from lofi.report.audit import AXES, BASELINES, Audit, groups
from lofi.report.sentences import mid_keep
from lofi.report.tables import Column, share
from lofi.report.words import SPACE, small
from lofi.tables import Row

POINT = (*AXES[:3], "weights", AXES[3])
MADE_BY = ("stats/measures.sql", "stats/measure_bounds.py:bounded", "report/measured.py:query")
FIELDS = ("value", "full_value", "low", "high", "excess", "excess_low", "excess_high")


@dataclass(frozen=True)
class Measure:
    """One measure of one channel."""

    channel: str
    name: str

    @property
    def key(self) -> str:
        """What it is called in a row of a page."""
        return f"{self.channel}_{self.name}"


def query(measures: Sequence[Measure], where: str = "true") -> str:
    """The measures of every point: means over seeds, null where one seed lacks the number. `low` is that of `moved`."""
    wanted = ", ".join(f"('{measure.channel}', '{measure.name}')" for measure in measures)
    means = ",\n".join(_mean(field, field) for field in FIELDS)
    return (
        "SELECT model, dataset, method, weights, keep, channel, measure,\n"
        f"    count(*) AS seeds, sum(n)::BIGINT AS n,\n{_mean('coalesce(change, value)', 'moved')},\n{means}\n"
        f"FROM measures\nWHERE (channel, measure) IN ({wanted}) AND {where}\nGROUP BY ALL\nORDER BY ALL"
    )


def _mean(field: str, name: str) -> str:
    # in the order of seeds, so that the last digit is the same every time
    return f"    CASE WHEN count({field}) = count(*) THEN avg({field} ORDER BY seed) END AS {name}"


def by_point(audit: Audit, rows: Sequence[Row], measures: Sequence[Measure]) -> list[Row]:
    """What `query` found, one row per (model, dataset, method, keep) in the order of the report.

    Of each measure: its key (what moved) with `_low` and `_high`, `_value`, `_full`, and `_excess` with its bounds;
    and `n_` before the key.
    """
    empty = {name: None for measure in measures for name in _named(measure.key, {})}
    asked = {tuple(cell[axis] for axis in AXES[:-1]): cell.get("keep_ratio") for cell in audit.cells}
    found = []
    for group in groups(rows, POINT):
        point: Row = {axis: group[0][axis] for axis in POINT} | empty
        point["keep_ratio"] = asked.get(tuple(point[axis] for axis in AXES[:-1]))  # what a keep sorts by
        for row in group:
            point |= _named(Measure(row["channel"], row["measure"]).key, row)
        found.append(point)
    return sorted(found, key=lambda row: place(audit, row))


def _named(key: str, row: Row) -> Row:
    names = {"": "moved", "_low": "low", "_high": "high", "_value": "value", "_full": "full_value"}
    names |= {f"_{name}": name for name in ("excess", "excess_low", "excess_high")}
    return {f"{key}{end}": row.get(name) for end, name in names.items()} | {f"n_{key}": row.get("n") or None}


def shown_keep(audit: Audit) -> str | None:
    """The keep of a page's figure: the middle one, else that of methods which set their own count or keep all."""
    others = (keep for keep in (OWN_COUNT, KEEP_ALL) if audit.at(keep))
    return mid_keep(audit) or next(others, None)


def place(audit: Audit, row: Row) -> tuple[int, int, int, int]:
    """Where a point stands in every table: by dataset, model, method, and from the mildest keep to the harshest."""
    methods = (*BASELINES, *audit.methods)
    keeps = (KEEP_ALL, *audit.keeps, OWN_COUNT)
    return (
        audit.datasets.index(row["dataset"]),
        audit.models.index(row["model"]),
        methods.index(row["method"]),
        keeps.index(row["keep"]),
    )


def divergence(label: str, column: str, definition: str) -> Column:
    """A number that may be far below a thousandth, with its interval where the row has one."""

    def write(row: Row) -> str:
        value, low, high = (row.get(f"{column}{end}") for end in ("", "_low", "_high"))
        return small(value) if low is None or high is None else f"{small(value)} [{small(low)},{SPACE}{small(high)}]"

    return Column(label, write, lambda row: row.get(column), definition, bounds=column)


def excess(label: str, key: str) -> Column:
    """The excess of a share over the floor, in percentage points, with its interval where the row has one."""
    return share(label, f"{key}_excess", "excess-of")


def filled(columns: Sequence[Column], rows: Sequence[Row]) -> list[Column]:
    """Without the columns in which no row has anything: what the sweep's answers have no use for."""
    return [column for column in columns if any(column.value(row) is not None for row in rows)]
