"""The figures: each with a sentence as its title and a caption that says how it was computed."""

from matplotlib.axes import Axes

from lofi.cell import FLOOR, KEEP_ALL, OWN_COUNT
from lofi.report.audit import Audit, token_share
from lofi.report.drawing import Figure, canvas, finish, floor_line, legend, line, styles
from lofi.report.words import count
from lofi.tables import Row


def kept_against_kept(audit: Audit) -> Figure:
    """Answers kept against accuracy kept: the figure of the answer."""
    figure, [[axes]] = canvas(1, 1, 4.2)
    look = styles(audit.methods, audit.random)
    drawn: list[Row] = []
    for method in audit.methods:
        keeps = (KEEP_ALL, *audit.keeps, OWN_COUNT)
        rows = [audit.overall[method, k] for k in keeps if (method, k) in audit.overall]
        rows = [r for r in rows if r.get("relative_accuracy") is not None and r.get("agreement") is not None]
        rows.sort(key=lambda r: -(token_share(r) or 0.0))
        if rows:
            x = [100 * row["relative_accuracy"] for row in rows]
            line(axes, rows, x, "agreement", look[method], audit.label(method), alpha=0.3)
            axes.plot(x[-1], 100 * rows[-1]["agreement"], "o", ms=11, fillstyle="none", color="#333333")
            drawn += rows
    _diagonal(axes, drawn)
    floor = audit.overall.get((FLOOR, KEEP_ALL), {}).get("agreement")
    if floor is not None:
        floor_line(axes, floor)
        axes.annotate("noise floor", (0.005, 100 * floor), xycoords=("axes fraction", "data"), xytext=(0, -10),
                      textcoords="offset points", fontsize=8, color="#333333")  # fmt: skip
    axes.set_xlabel("accuracy kept (relative accuracy, % of the full model's)")
    axes.set_ylabel("answers kept (agreement, %)")
    legend(figure, axes)
    caption = (
        "One point per method and keep, the mean over every model and dataset; each line joins the keeps of a "
        "method, and a ring marks its harshest. Below the diagonal, accuracy looks better than the answers are. "
        "Vertical bars: 95 % intervals of agreement."
    )
    return finish(figure, "fig-answer", _answer_title(audit, drawn), caption)


def _answer_title(audit: Audit, drawn: list[Row]) -> str:
    below = sum(row["agreement"] < row["relative_accuracy"] for row in drawn)
    if drawn:
        points = count(len(drawn), "combination")
        return f"In {below} of {points} of method and keep, fewer answers are kept than accuracy is."
    if any(audit.at(keep) for keep in audit.keeps):
        return "Accuracy kept has no mean: on some dataset the full model is never right."
    return "No method was run on every model and dataset, so there is nothing to average."


def _diagonal(axes: Axes, rows: list[Row]) -> None:
    """The line on which as many answers are kept as accuracy, and limits that show every point."""
    x = [100 * row["relative_accuracy"] for row in rows] or [0.0]
    y = [100 * (row.get("agreement_low") or row["agreement"]) for row in rows] or [0.0]
    right, left, bottom = max(101.0, max(x) + 1), min(99.0, min(x) - 2), min(99.0, min(y) - 2)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, 101)
    low = max(left, bottom)
    axes.plot([low, 101], [low, 101], color="#8a8a8a", linewidth=1, zorder=0)
    middle = low + 0.6 * (101 - low)
    axes.annotate("as many answers kept as accuracy", (middle, middle), xytext=(-10, 6), ha="right", va="bottom",
                  textcoords="offset points", fontsize=8, color="#5c5c5c")  # fmt: skip
