"""Figures of whole datasets: what papers quote of each benchmark, each with its counterpart for agreement."""

from lofi.report.audit import AXES, Audit, groups, mean_row
from lofi.report.how import How
from lofi.report.tables import KEEP, METHOD, Column, Table, table, telling, text, whole
from lofi.report.words import interval, number, number_interval, percent
from lofi.tables import Row, literal

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


MADE_BY = ("stats/metrics.sql", "stats/ratios.sql", "scoring/figures.py:figures_of")


def query(dataset: str) -> str:
    """The SELECT of all figures of one dataset, one row per seed, in the order of its card."""
    return (
        "SELECT model, method, keep, seed, metric, category, basis, value, low, high, n, unit\n"
        f"FROM metrics\nWHERE dataset = {literal(dataset)}"
    )


def benchmarks(audit: Audit, dataset: str, name: str, most: int) -> list[Table]:
    """The figures of the whole dataset, then those by category, where it has such."""
    rows = [{**row, "dataset": dataset} for row in audit.select(query(dataset))]
    found = {
        f"{name}-figures": ("figures of the whole dataset", [row for row in rows if row["category"] is None]),
        f"{name}-parts": ("figures by category", [row for row in rows if row["category"] is not None]),
    }
    return [
        _table(audit, id, f"{dataset}: {caption}, means over seeds", figures, most)
        for id, (caption, figures) in found.items()
        if figures
    ]


def _table(audit: Audit, id: str, caption: str, figures: list[Row], most: int) -> Table:
    """One row per point of the sweep, and category; one column per figure and basis."""
    dataset, of_parts = figures[0]["dataset"], figures[0]["category"] is not None
    more = [text("category", "category")] if of_parts else []
    columns = [_column(row) for row in {_key(row): row for row in figures}.values()]
    at = {tuple(group[0][axis] for axis in POINT): group for group in groups(figures, POINT)}
    rows = [
        {**point, **_values(group)}
        for point in audit.points
        for group in groups(at.get(tuple(point[axis] for axis in POINT), []), ("category",))
    ]
    columns = telling(audit, [METHOD, KEEP, *more, *columns, whole("n", "n", "n")])
    how = How(query(dataset), MADE_BY, "n: samples, each counted in every seed; the query has a row for each seed")
    return table(id, caption, columns, rows, most, how)


def _values(rows: list[Row]) -> Row:
    """The figures of one point, the mean over its seeds, under their keys."""
    values: Row = {"category": rows[0]["category"], "n": 0}
    for group in groups(rows, ("metric", "basis")):
        mean, key = mean_row(group, ("metric", "basis")), _key(group[0])
        values["n"] = max(values["n"], mean["n"])
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
