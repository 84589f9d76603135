"""The tables of the page: what stands in each column, how it is written, and what it sorts by."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lofi.cell import AS_LOADED, FLOOR, FULL
from lofi.report.audit import Audit
from lofi.report.how import How
from lofi.report.words import (
    count,
    interval,
    keep_label,
    number,
    number_interval,
    percent,
    weights_label,
)
from lofi.tables import Row

MOST = 3000  # rows of one table


@dataclass(frozen=True)
class Column:
    """A column: its header, the definition it links to, and how a row's cell is written."""

    label: str
    write: Callable[[Row], str]
    value: Callable[[Row], Any]
    definition: str = ""  # anchor of its definition
    numeric: bool = True
    bar: bool = False  # a share that is also drawn as a bar
    bounds: str = ""  # the column whose `_low` and `_high` the download adds


@dataclass(frozen=True)
class Entry:
    """One table cell: what is read, what sorts and downloads, and the length of its bar in percent."""

    text: str
    value: str
    bar: float | None = None
    low: str | None = None
    high: str | None = None


@dataclass(frozen=True)
class Table:
    """A table as the template prints it."""

    id: str
    caption: str
    columns: Sequence[Column]
    rows: list[list[Entry]]
    marked: frozenset[int] = frozenset()  # places of the full and floor rows, and of primary correlations
    left_out: int = 0
    how: How | None = None


def text(label: str, column: str, definition: str = "") -> Column:
    """A column of names."""
    return Column(label, lambda row: str(row[column]), lambda row: row[column], definition, numeric=False)


def share(label: str, column: str, definition: str, bar: bool = False) -> Column:
    """A share, with its interval where the row has one."""

    def write(row: Row) -> str:
        if row.get(f"{column}_low") is None:
            return percent(row.get(column))
        return f"{percent(row.get(column))} {interval(row[f'{column}_low'], row[f'{column}_high'])}"

    return Column(label, write, lambda row: row.get(column), definition, bar=bar, bounds=column)


def whole(label: str, column: str, definition: str = "") -> Column:
    """A count."""
    return Column(label, lambda row: count(row.get(column)), lambda row: row.get(column), definition)


def decimal(label: str, column: str, definition: str = "", digits: int = 1) -> Column:
    """A plain number."""
    return Column(label, lambda row: number(row.get(column), digits), lambda row: row.get(column), definition)


def estimate(label: str, column: str, definition: str = "", digits: int = 2) -> Column:
    """A plain number, with its interval where the row has one."""

    def write(row: Row) -> str:
        low, high = row.get(f"{column}_low"), row.get(f"{column}_high")
        bounds = "" if low is None or high is None else f" {number_interval(low, high, digits)}"
        return number(row.get(column), digits) + bounds

    return Column(label, write, lambda row: row.get(column), definition, bounds=column)


def _kept(row: Row) -> str:
    """The mean count, with the least and the greatest where images differ."""
    mean, low, high = (row.get(f"kept_tokens{end}") for end in ("", "_min", "_max"))
    return number(mean, 1) if low is None or low == high else f"{number(mean, 1)} ({count(low)} to {count(high)})"


def _excess(row: Row) -> float | None:
    """In points; the full model agrees with itself by definition, so it has none."""
    excess = row.get("divergence_excess")
    return None if excess is None or row["method"] == FULL else 100 * excess


KEEP = Column("keep", lambda row: keep_label(row["keep"]), lambda row: row.get("keep_ratio"), "keep")
METHOD = text("method", "method", "method")
MODEL = text("model", "model")
RATIO = Column(
    "accuracy kept",
    lambda row: percent(row.get("relative_accuracy")),
    lambda row: row.get("relative_accuracy"),
    "relative-accuracy",
    bar=True,
)
EXCESS = Column(
    "excess (points)",
    lambda row: number(_excess(row), 1),
    _excess,
    "excess",
)
KEPT = (
    METHOD,
    KEEP,
    share("answers kept (agreement)", "agreement", "agreement", bar=True),
    RATIO,
    share("accuracy", "accuracy", "accuracy"),
    EXCESS,
    whole("n", "n", "n"),
    Column("kept tokens", _kept, lambda row: row.get("kept_tokens"), "kept-tokens"),
    decimal("layer-mean tokens", "layer_mean_tokens", "layer-mean"),
)


def table(
    id: str, caption: str, columns: Sequence[Column], rows: list[Row], most: int = MOST, how: How | None = None
) -> Table:
    """Rows written out, at most so many."""
    shown = rows[:most]
    with_bounds = {c.bounds for c in columns if any(row.get(f"{c.bounds}_low") is not None for row in rows)}
    columns = [c if c.bounds in with_bounds else replace(c, bounds="") for c in columns]
    entries = [[_entry(c, row) for c in columns] for row in shown]
    marked = frozenset(i for i, row in enumerate(shown) if row.get("method") in (FULL, FLOOR) or row.get("primary"))
    return Table(id, caption, columns, entries, marked, len(rows) - len(shown), how)


def _entry(column: Column, row: Row) -> Entry:
    value = column.value(row)
    entry = Entry(column.write(row), _plain(value), _bar(value) if column.bar else None)
    if not column.bounds:
        return entry
    return replace(entry, low=_plain(row[f"{column.bounds}_low"]), high=_plain(row[f"{column.bounds}_high"]))


def _plain(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _bar(value: float | None) -> float | None:
    return None if value is None else round(100 * min(1.0, max(0.0, value)), 1)


def telling(audit: Audit, columns: Sequence[Column]) -> list[Column]:
    """With the columns that tell rows apart, where they do."""
    quantised = audit.quantised

    def weights(row: Row) -> str:
        return weights_label(quantised.get(row["method"], AS_LOADED))

    named = Column("weights", weights, weights, "weights", numeric=False)
    by_weights = [column for c in columns for column in ((c, named) if c is METHOD and quantised else (c,))]
    return by_weights if len(audit.models) == 1 else [MODEL, *by_weights]
