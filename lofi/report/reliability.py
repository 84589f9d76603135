"""How sure answers are against how often they are right: the reliability diagram, and the errors that sum it up."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from lofi.cell import FULL
from lofi.report.audit import Audit, groups
from lofi.report.drawing import Figure, Style, canvas, finish, heading, styles
from lofi.report.how import How
from lofi.report.words import count, keep_name, keep_phrase, points
from lofi.tables import Row

PANELS = 12
NAMES = {"options": "answers read from the options", "text": "generated answers"}  # channel -> whose confidence it is


def diagram(audit: Audit, channel: str, keep: str) -> Figure | None:
    """Of each method at one keep, beside the full model; None where nothing has a confidence and a grade there."""
    query = bins_query(channel, keep)
    rows = audit.select(query)
    full = [row for row in rows if row["method"] == FULL]
    found = {g[0]["method"]: g for g in groups(rows, ("method",)) if full and g[0]["pairs"] == full[0]["pairs"]}
    methods = [method for method in audit.methods if method in found]
    if not methods:
        return None
    shown = methods[:PANELS]
    columns = math.ceil(math.sqrt(len(shown)))
    figure, grid = canvas(-(-len(shown) // columns), columns, 2.2, sharex=True, sharey=True)
    look = styles(audit.methods, audit.random)
    cells = [axes for row in grid for axes in row]
    for axes, method in zip(cells, shown, strict=False):
        _panel(axes, full, found[method], look[method])
        heading(axes, audit.label(method))
    for place, axes in enumerate(cells):
        axes.tick_params(labelbottom=place + columns >= len(shown))
        if place >= len(shown):
            axes.set_axis_off()
    figure.supxlabel("confidence", fontsize=9)
    figure.supylabel("share of right answers", fontsize=9)
    drawn = [row for method in (FULL, *shown) for row in found[method]]
    title = _title(channel, keep, full, [found[method] for method in methods])
    return finish(
        figure, f"fig-reliability-{channel}", title, _caption(channel, keep, methods, full), _how(query, drawn), drawn
    )


def bins_query(channel: str, keep: str) -> str:
    """The bins of every method at one keep and of the full model, all models, datasets and seeds together."""
    order = "ORDER BY model, dataset, seed"  # so that the last digit is the same every time
    return (
        "SELECT method, bin, count(DISTINCT (model, dataset)) AS pairs, sum(n)::BIGINT AS n,\n"
        f"    sum(n * confidence {order}) / sum(n) AS confidence, sum(n * accuracy {order}) / sum(n) AS accuracy\n"
        f"FROM calibration\nWHERE channel = '{channel}' AND binning = 'equal_mass'\n"
        f"    AND (keep = '{keep}' OR method = '{FULL}')\n"
        "GROUP BY ALL\nORDER BY ALL"
    )


def _panel(axes: Axes, full: Sequence[Row], rows: Sequence[Row], style: Style) -> None:
    axes.axline((1, 1), slope=1, color="#8a8a8a", linewidth=1, zorder=0)
    for found, colour, marker, dash in ((full, "#333333", "x", ":"), (rows, style.colour, style.marker, "-")):
        x, y = ([row[column] for row in found] for column in ("confidence", "accuracy"))
        axes.plot(x, y, color=colour, marker=marker, linestyle=dash, linewidth=1, markersize=4.5, alpha=0.9)


def _gap(rows: Sequence[Row]) -> float:
    return float(sum(row["n"] * (row["confidence"] - row["accuracy"]) for row in rows) / sum(row["n"] for row in rows))


def _title(channel: str, keep: str, full: Sequence[Row], found: Sequence[Sequence[Row]]) -> str:
    gaps = sorted(_gap(rows) for rows in found)
    methods = points(gaps[0]) if len(gaps) == 1 else f"between {points(gaps[0])} and {points(gaps[-1])}"
    return (
        f"At {keep_name(keep)}, mean confidence of {NAMES[channel]} less their accuracy is {points(_gap(full))} in "
        f"full and {methods} with {count(len(gaps), 'method')}."
    )


def _caption(channel: str, keep: str, methods: Sequence[str], full: Sequence[Row]) -> str:
    what = {
        "options": "The confidence is the highest probability over the options.",
        "text": "The confidence is the likelihood of the whole generated text.",
    }
    caption = (
        f"Keeping {keep_phrase(keep)}. Fifteen bins of equal numbers of answers, from the least sure to the surest: in "
        "each, the mean confidence and the share that is right; on the diagonal the two are equal. Colour: the method; "
        f"black crosses, dotted: the full model, the same in every panel. {what[channel]} Bins are made in each cell, "
        f"and those of one rank put together over {count(full[0]['pairs'], 'pair')} of model and dataset, all seeds, "
        "so opposite errors of two datasets can cancel here; the table has each."
    )
    if len(methods) > PANELS:
        caption += f" Only the first {PANELS} of {len(methods)} methods are drawn."
    return caption


def _how(query: str, rows: Sequence[Row]) -> How:
    n = sum(row["n"] for row in rows)
    made_by = ("stats/confidences.sql", "stats/calibration.py", "report/reliability.py:bins_query")
    return How(query, made_by, f"n = {count(n, 'graded answer')} in {count(len(rows), 'bin')}")
