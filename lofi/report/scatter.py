"""The shift of the spectrum against agreement: one point per model, dataset, method and keep, less its group's mean."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from lofi.cell import OWN_COUNT
from lofi.report.audit import Audit
from lofi.report.drawing import Figure, Style, canvas, finish, heading, legend, styles
from lofi.report.how import How
from lofi.report.words import correlation, count, number, p_value
from lofi.tables import Row

MAX_VECTORS = 1500  # more points than this are drawn as a picture inside the drawing
LEADING = "within_model_dataset_keep"
# scope, its name, and the columns of its axes
PANELS = (
    (LEADING, "within (model, dataset, keep)", "shift_at_keep", "agreement_at_keep"),
    ("within_model_dataset", "within (model, dataset)", "shift_in_pair", "agreement_in_pair"),
    ("pooled", "pooled", "shift", "agreement"),
)
# The points of the declared question, as `stats/points.sql` makes them: the mean over seeds. A method that sets its own
# count shares no keep with others, so it is a group of its own there; what is alone in its group has no row inside it.
QUERY = """\
WITH answered AS (
    SELECT model, dataset, method, keep, seed, agreement, n
    FROM cells
    WHERE weights = 'none' AND method NOT IN ('full', 'floor') AND agreement IS NOT NULL
),
responses AS (
    SELECT model, dataset, method, keep, avg(agreement ORDER BY seed) AS agreement, sum(n)::BIGINT AS n
    FROM answered
    GROUP BY ALL
),
shifts AS (
    SELECT model, dataset, method, keep, avg(dlog ORDER BY seed) AS shift
    FROM spectra SEMI JOIN answered USING (model, dataset, method, keep, seed)
    WHERE statistic = 'ipr_u' AND site = 'projector' AND tokens = 'visual' AND centred
    GROUP BY ALL
    HAVING count(dlog) > 0
),
points AS (
    SELECT *, CASE WHEN keep = 'auto' THEN method END AS alone
    FROM responses JOIN shifts USING (model, dataset, method, keep)
)
SELECT
    model, dataset, method, keep, n, shift, agreement,
    shift - avg(shift) OVER pair AS shift_in_pair,
    agreement - avg(agreement) OVER pair AS agreement_in_pair,
    CASE WHEN count(*) OVER same > 1 THEN shift - avg(shift) OVER same END AS shift_at_keep,
    CASE WHEN count(*) OVER same > 1 THEN agreement - avg(agreement) OVER same END AS agreement_at_keep
FROM points
WINDOW
    pair AS (PARTITION BY model, dataset ORDER BY method, keep
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING),
    same AS (PARTITION BY model, dataset, keep, alone ORDER BY method
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
ORDER BY model, dataset, method, keep"""


def scatter(audit: Audit, found: Mapping[str, Row]) -> Figure | None:
    """The points in three scopes, the leading one first; None without points. found: scope -> its correlation."""
    points = audit.select(QUERY)
    if not points:
        return None
    methods = [method for method in audit.methods if any(point["method"] == method for point in points)]
    figure, [row] = canvas(1, len(PANELS), 3.7)
    look = styles(audit.methods, audit.random)
    for axes, (scope, name, x, y) in zip(row, PANELS, strict=True):
        _panel(axes, methods, [point for point in points if point[x] is not None], (x, y), look)
        r = found.get(scope, {})
        heading(axes, f"{name}\n{correlation(r)}\n{p_value(r.get('p'))}", bold=scope == LEADING)
        less = "" if scope == "pooled" else " − group mean"
        axes.set_xlabel(f"shift of ln IPR_U{less}")
        axes.set_ylabel(f"agreement{less} ({'points' if less else '%'})")
    legend(figure, row[-1])
    lead, pooled = (_words(found.get(scope, {})) for scope in (LEADING, "pooled"))
    title = f"At equal model, dataset and keep, {lead}; pooled over everything, {pooled}."
    n = f"n = {count(len(points), 'point')} from {count(sum(point['n'] for point in points), 'answer')}"
    how = How(QUERY, ("report/scatter.py", "stats/points.sql", "stats/spectra.sql"), n)
    return finish(figure, "fig-ipr", title, _caption(audit, points), how, points)


def _panel(
    axes: Axes, methods: Sequence[str], points: Sequence[Row], columns: tuple[str, str], look: Mapping[str, Style]
) -> None:
    x, y = columns
    for method in methods:
        rows = [point for point in points if point["method"] == method]
        axes.scatter(
            [point[x] for point in rows], [100 * point[y] for point in rows],
            s=22, color=look[method].colour, marker=look[method].marker, alpha=0.85, linewidths=0.4,
            edgecolors="white", label=method, rasterized=len(points) * len(PANELS) > MAX_VECTORS,
        )  # fmt: skip


def _words(row: Row) -> str:
    return f"r = {number(row['pearson'])}" if row.get("pearson") is not None else "r is undefined"


def _caption(audit: Audit, points: Sequence[Row]) -> str:
    caption = (
        f"One point per model, dataset, method and keep ({count(len(points), 'point')}, mean over seeds): the change "
        "of ln IPR_U (visual tokens after the projector, centred by the full run's mean) from full to reduced, "
        "against agreement. In the left and middle panels the mean of each group is subtracted from both axes. Only "
        "the left panel compares methods at the same keep: it is the test of the claim."
    )
    alone = sum(point["shift_at_keep"] is None for point in points)
    if alone:
        caption += f" It leaves out {count(alone, 'point')} that no other method shares a keep with"
        caption += ", among them those of own count." if any(p["keep"] == OWN_COUNT for p in points) else "."
    if audit.quantised:
        caption += " Methods on quantised weights are in no panel: their answers change without the visual tokens."
    return caption
