"""Two methods at a time on one dataset: each difference with its tests."""

from lofi.report.audit import Audit
from lofi.report.how import How
from lofi.report.tables import MODEL, Column, Table, table, text, whole
from lofi.report.words import interval, keep_name, p_value, points
from lofi.tables import Row, literal

MADE_BY = (
    *("stats/comparisons.py:compared", "stats/comparisons.py:as_table", "stats/exact.py:swap_p"),
    *("stats/multiplicity.py:holm", "stats/resample.py:bca_interval"),
)


def query(dataset: str, keep: str) -> str:
    """The SELECT of every two methods once, the one that keeps more answers first."""
    return f"""\
SELECT model, method, versus, a.n, a.n_images, a.only_method, a.only_versus, a.p, a.p_holm, a.n_tests, a.mcnemar_mid,
    a.difference AS agreement, a.low AS agreement_low, a.high AS agreement_high,
    c.difference AS accuracy, c.low AS accuracy_low, c.high AS accuracy_high, c.p_holm AS accuracy_p_holm
FROM comparisons a JOIN comparisons c USING (model, dataset, keep, method, versus)
WHERE a.basis = 'agreement' AND c.basis = 'correct' AND versus <> 'full'
    AND dataset = {literal(dataset)} AND keep = {literal(keep)}
    AND (a.difference > 0 OR (coalesce(a.difference, 0) = 0 AND method < versus))
ORDER BY model, a.p_holm NULLS LAST, agreement DESC, method, versus"""


def signed(label: str, column: str, definition: str) -> Column:
    """A difference of shares in percentage points, with its interval."""

    def write(row: Row) -> str:
        low, high = row.get(f"{column}_low"), row.get(f"{column}_high")
        value = points(row.get(column)).removesuffix("points").strip()
        return value if low is None or high is None else f"{value} {interval(low, high)}"

    return Column(label, write, lambda row: row.get(column), definition, bounds=column)


def tested(label: str, column: str, definition: str) -> Column:
    """A p value."""
    return Column(
        label,
        lambda row: p_value(row[column]).removeprefix("p ").removeprefix("= "),
        lambda row: row[column],
        definition,
    )


COLUMNS = (
    text("method", "method", "method"),
    text("less", "versus"),
    signed("agreement (points)", "agreement", "difference"),
    tested("p", "p", "swap-p"),
    tested("Holm p", "p_holm", "beyond-chance"),
    whole("only the first agrees", "only_method", "mcnemar"),
    whole("only the second agrees", "only_versus", "mcnemar"),
    tested("mid-p", "mcnemar_mid", "mcnemar"),
    signed("accuracy (points)", "accuracy", "difference"),
    tested("Holm p of accuracy", "accuracy_p_holm", "beyond-chance"),
    whole("n", "n", "n"),
    whole("images", "n_images"),
)


def difference_table(audit: Audit, dataset: str, keep: str, name: str, most: int) -> Table:
    """Every two methods of every model at one keep."""
    rows = audit.select(query(dataset, keep))
    rows.sort(key=lambda row: audit.models.index(row["model"]))
    shown = [{**row, "method": audit.label(row["method"]), "versus": audit.label(row["versus"])} for row in rows]
    columns = COLUMNS if len(audit.models) == 1 else (MODEL, *COLUMNS)
    caption = f"{dataset}: two methods at a time at {keep_name(keep)}"
    n = "n: samples that ran in every seed of both methods"
    return table(name, caption, columns, shown, most, How(query(dataset, keep), MADE_BY, n))
