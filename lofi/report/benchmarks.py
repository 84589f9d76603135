"""Figures of whole datasets: what papers quote of each benchmark, each with its counterpart for agreement."""

from dataclasses import dataclass

from lofi.report.audit import AXES, Audit, groups, mean_row
from lofi.report.tables import KEEP, METHOD, Column, Table, table, telling, text
from lofi.report.words import interval, number, number_interval, percent
from lofi.tables import Row

SHARE = "share"  # the unit of figures that are written in percent
AGREEMENT = "agreement"
POINT = AXES[:-1]
NAMES = {
    "mean_f1": "mean F1",
    "f1": "F1",
    "yes_share": "share of yes",
    "category_score": "score",
    "accuracy_plus": "accuracy+",
    "mean_accuracy": "mean of categories",
    "vanilla": "vanilla, unrotated",
    "vanilla_all": "vanilla, all rows",
    "total": "right answers",
}


@dataclass(frozen=True)
class Benchmark:
    """The tables of one dataset; `by_category` where it has figures by category."""

    whole: Table
    by_category: Table | None


def benchmarks(audit: Audit, most: int) -> list[Benchmark]:
    """One for each dataset that has figures."""
    most = max(1, most // len(audit.datasets))
    made = []
    for i, dataset in enumerate(audit.datasets):
        rows = [row for row in audit.metrics if row["dataset"] == dataset]
        whole = [row for row in rows if row["category"] is None]
        parts = [row for row in rows if row["category"] is not None]
        tables = [
            _table(audit, f"figures-{i}{end}", f"{dataset}: {caption}", figures, most, more) if figures else None
            for end, caption, figures, more in (
                ("", "figures of the whole dataset", whole, []),
                ("-parts", "figures by category", parts, [text("category", "category")]),
            )
        ]
        if tables[0]:
            made.append(Benchmark(tables[0], tables[1]))
    return made


def _table(audit: Audit, id: str, caption: str, figures: list[Row], most: int, more: list[Column]) -> Table:
    """One row per point of the sweep, and category; one column per figure and basis."""
    columns = [_column(row) for row in {_key(row): row for row in figures}.values()]
    at = {tuple(group[0][axis] for axis in POINT): group for group in groups(figures, POINT)}
    rows = [
        {**point, **_values(group)}
        for point in audit.points
        for group in groups(at.get(tuple(point[axis] for axis in POINT), []), ("category",))
    ]
    return table(id, caption, telling(audit, [METHOD, KEEP, *more, *columns]), rows, most)


def _values(rows: list[Row]) -> Row:
    """The figures of one point, the mean over its seeds, under their keys."""
    values: Row = {"category": rows[0]["category"]}
    for group in groups(rows, ("metric", "basis")):
        mean, key = mean_row(group, ("metric", "basis")), _key(group[0])
        values |= {key: mean["value"], f"{key}_low": mean["low"], f"{key}_high": mean["high"]}
    return values


def _key(row: Row) -> str:
    return f"{row['metric']} {row['basis']}"


def _column(figure: Row) -> Column:
    """In percent, or in the points of the benchmark, which the header then names."""
    key, share = _key(figure), figure["unit"] == SHARE
    metric = str(figure["metric"])
    name = NAMES.get(metric, metric)
    label = name if share else f"{name} ({figure['unit']})"

    def write(row: Row) -> str:
        value, low, high = (row.get(f"{key}{end}") for end in ("", "_low", "_high"))
        written = percent(value) if share else number(value, 1)
        if low is None or high is None:
            return written
        return f"{written} {interval(low, high) if share else number_interval(low, high, 1)}"

    of_agreement = figure["basis"] == AGREEMENT
    definition = "counterpart" if of_agreement else f"figure-{metric.replace('_', '-')}"
    label = f"{name}, agreement" if of_agreement else label
    return Column(label, write, lambda row: row.get(key), definition, bounds=key)
