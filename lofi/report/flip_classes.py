"""What became of the answers that changed: counted for every point, and drawn as means over the sweep."""

from collections.abc import Sequence

from lofi.cell import FLOOR, KEEP_ALL, OWN_COUNT
from lofi.report.audit import Audit, groups, over_datasets
from lofi.report.drawing import Figure, canvas, finish, heading, legend, spread
from lofi.report.how import How
from lofi.report.words import NONE, count, keep_label, percent
from lofi.tables import Row

MADE_BY = ("stats/cells.sql", "stats/methods.sql", "stats/intervals.py:of_methods", "report/flip_classes.py:query")
MAX_KEEPS = 4
COUNTED = ("neg_flip", "pos_flip", "wrong_to_other", "right_to_other")
CLASSES = (  # column, name, colour, hatch
    ("neg_flip", "lost (negative flip)", "#c1361b", ""),
    ("pos_flip", "gained (positive flip)", "#0a6ebd", "////"),
    ("exchanged", "exchanged", "#a3a3a3", "\\\\\\\\"),
)


def query() -> str:
    """One row per (model, dataset, method, keep): rates and counts over the samples of all seeds together."""
    counts = ",\n        ".join(f"sum(n_{name})::BIGINT AS n_{name}" for name in COUNTED)
    rates = ",\n    ".join(f"n_{name}, n_{name} / nullif(n_graded, 0) AS {name}" for name in COUNTED[1:])
    return f"""
WITH counts AS (
    SELECT
        model, dataset, method, keep, max(keep_ratio) AS keep_ratio,
        {counts},
        CASE WHEN count(unparsed) = count(*) THEN avg(unparsed ORDER BY seed) END AS unparsed
    FROM cells
    WHERE method <> 'full'
    GROUP BY model, dataset, method, keep
)
SELECT
    model, dataset, method, weights, keep, keep_ratio, n_seeds, n, n_graded,
    1 - agreement AS changed, 1 - agreement_high AS changed_low, 1 - agreement_low AS changed_high,
    n_neg_flip, neg_flip, neg_flip_low, neg_flip_high,
    {rates},
    (n_wrong_to_other + n_right_to_other) / nullif(n_graded, 0) AS exchanged,
    (n_pos_flip - n_neg_flip) / nullif(n_graded, 0) AS accuracy_change,
    (n_pos_flip + n_neg_flip) / nullif(abs(n_pos_flip - n_neg_flip), 0) AS hidden_ratio,
    unparsed
FROM methods JOIN counts USING (model, dataset, method, keep)
ORDER BY model, dataset, method, keep""".strip()


def how(rows: Sequence[Row], *made_by: str) -> How:
    """Where such rows come from."""
    n = sum(row["n"] for row in rows)
    return How(query(), (*MADE_BY, *made_by), f"n = {count(n, 'answer')} in {count(len(rows), 'row')}, seeds added up")


def means(audit: Audit, rows: Sequence[Row]) -> dict[tuple[str, str], Row]:
    """(method, keep) -> the mean over all pairs of model and dataset, where none is missing."""
    found = groups(rows, ("method", "keep"))
    return {
        (group[0]["method"], group[0]["keep"]): over_datasets(group, ("method", "keep"))
        for group in found
        if len(group) == len(audit.pairs)
    }


def shared_keeps(audit: Audit, overall: dict[tuple[str, str], Row]) -> list[str]:
    """The keeps at which some method has a mean, from all tokens to the fewest."""
    return [keep for keep in (KEEP_ALL, *audit.keeps) if any((method, keep) in overall for method in audit.methods)]


def drawn(audit: Audit, rows: Sequence[Row]) -> Figure | None:
    """Lost, gained and exchanged answers by method and keep; None where nothing has a mean."""
    overall = means(audit, rows)
    keeps = shared_keeps(audit, overall)
    shown = spread(keeps, MAX_KEEPS)
    bars = [overall[m, k] for k in shown for m in audit.methods if (m, k) in overall]
    bars = [row for row in bars if row["neg_flip"] is not None]
    if not bars:
        return None
    names = [audit.label(method) for method in audit.methods]
    figure, [panels] = canvas(1, len(shown), 0.9 + 0.27 * max(3, len(names)), sharex=True, sharey=True)
    floor = overall.get((FLOOR, KEEP_ALL), {}).get("changed")
    for axes, keep in zip(panels, shown, strict=True):
        here = {row["method"]: row for row in bars if row["keep"] == keep}
        left = [0.0] * len(names)
        for column, label, colour, hatch in CLASSES:
            widths = [100 * here[m][column] if m in here else 0.0 for m in audit.methods]
            axes.barh(
                names, widths, left=left, color=colour, hatch=hatch, label=label, height=0.72,
                edgecolor="white", linewidth=0,
            )  # fmt: skip
            left = [start + width for start, width in zip(left, widths, strict=True)]
        for place, method in enumerate(audit.methods):
            if method not in here:
                axes.annotate(NONE, (0, place), xytext=(3, 0), textcoords="offset points", va="center", color="#5c5c5c")
        if floor is not None:
            axes.axvline(100 * floor, color="#333333", linewidth=1, linestyle=(0, (1, 1)))
        heading(axes, f"keep {keep_label(keep)}")
        axes.set_xlabel("share of answers (%)")
        axes.set_ylim(len(names) - 0.4, -0.6)
    legend(figure, panels[0])
    source = how(rows, "report/audit.py:over_datasets")
    return finish(figure, "fig-flips", _title(bars, shown[-1]), _caption(audit, keeps, floor), source, bars)


def _title(bars: list[Row], keep: str) -> str:
    rows = [row for row in bars if row["keep"] == keep]
    if not rows:
        return "Lost, gained and exchanged answers, by method and keep."
    lost, gained, exchanged = (sum(row[column] for row in rows) / len(rows) for column, *_ in CLASSES)
    return (
        f"At keep {keep_label(keep)}, {percent(lost)} of the answers are lost, {percent(gained)} gained and "
        f"{percent(exchanged)} exchanged, on average over {count(len(rows), 'method')}."
    )


def _caption(audit: Audit, keeps: list[str], floor: float | None) -> str:
    caption = (
        "Share of all graded answers that changed, by what became of them; the length of a bar is the share of changed "
        "answers. Mean over every model and dataset. Lost: right in full, wrong in reduced. Gained: the reverse. "
        "Exchanged: as right or as wrong as before, but another answer. A dash: no mean at that keep."
    )
    if floor is None:
        caption += " The noise floor was not measured on every pair."
    else:
        caption += f" Dotted line: the noise floor, which changes {percent(floor)}."
    if len(keeps) > MAX_KEEPS:
        caption += f" {MAX_KEEPS} of {len(keeps)} keeps are drawn; the table has all."
    if any(cell["keep"] == OWN_COUNT for cell in audit.cells):
        caption += " Methods that set their own count stand in the table only: they share no keep with others."
    return caption
