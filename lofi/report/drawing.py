"""How every figure looks, and how it becomes inline SVG: one palette, one order, the same bytes from the same data."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import matplotlib
import seaborn as sns
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Canvas
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lofi.report.how import How
from lofi.report.svg import inline
from lofi.tables import Row

WIDTH = 9.2
MAX_VECTORS = 1500  # more points than this are drawn as a picture inside the drawing
LEGEND_LETTERS = 120  # that fit on one line, with 7 for each handle
MARKERS = "osD^vPX<>p*h"
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))
COLOURS = (0, 1, 2, 3, 4, 9, 5, 8, 6)  # of seaborn's "colorblind", strongest first; its grey is random's
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lofi",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "axes.titlelocation": "left",
    "hatch.linewidth": 0.6,
    "hatch.color": "white",
}


@dataclass(frozen=True)
class Style:
    """How one method looks in every figure."""

    colour: Any
    marker: str
    dash: Any


@dataclass(frozen=True)
class Figure:
    """A drawing, the sentence it shows, how it was computed, and the numbers in it."""

    id: str
    title: str
    caption: str
    canvas: Canvas
    how: How | None = None
    rows: tuple[Row, ...] = ()  # one per point or bar: what a reader downloads

    @cached_property
    def svg(self) -> Markup:
        """The drawing for the page."""
        with matplotlib.rc_context(SETTINGS):
            return inline(self.canvas, self.id, self.title, self.caption)


def styles(methods: Sequence[str], baseline: str | None) -> dict[str, Style]:
    """Colour, marker and line of each method; the baseline (random) is grey."""
    palette = sns.color_palette("colorblind")
    found: dict[str, Style] = {}
    for method in methods:
        if method == baseline:
            found[method] = Style("#6b6b6b", "o", (0, (1, 1.5)))
            continue
        i = len([name for name in found if name != baseline])
        found[method] = Style(
            palette[COLOURS[i % len(COLOURS)]], MARKERS[(i + 1) % len(MARKERS)], DASHES[i % len(DASHES)]
        )
    return found


def canvas(rows: int, columns: int, height: float, **options: Any) -> tuple[Canvas, list[list[Axes]]]:
    """A figure with a grid of axes, in the one look of the report; `height` is that of one row, in inches."""
    with matplotlib.rc_context({**sns.axes_style("ticks"), **SETTINGS}):
        figure = Canvas(figsize=(WIDTH, height * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, **options)
        for axis in axes.flat:
            axis.grid(True, color="#e6e6e6", linewidth=0.7)
            axis.set_axisbelow(True)
            sns.despine(ax=axis)
    return figure, [list(row) for row in axes]


def heading(axes: Axes, text: str, bold: bool = True) -> None:
    """The title of one panel."""
    axes.set_title(text, loc="left", fontsize=9.5, fontweight="bold" if bold else "normal")


def legend(figure: Canvas, axes: Axes) -> None:
    """One legend for the whole figure, above it."""
    handles, labels = axes.get_legend_handles_labels()
    rows = -(-sum(len(label) + 7 for label in labels) // LEGEND_LETTERS)
    longest = max(map(len, labels), default=0) + 7
    columns = max(1, min(-(-len(labels) // max(1, rows)), LEGEND_LETTERS // longest))
    options: dict[str, Any] = {"handlelength": 2.3, "columnspacing": 1.1, "fontsize": 8.5, "frameon": False}
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, **options)


def marks(axis: Axis, places: Sequence[float]) -> None:
    """Marks at these places of a logarithmic axis and nowhere else, written as plain numbers."""
    axis.set_major_locator(FixedLocator(list(places)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))


def finish(
    figure: Canvas, name: str, title: str, caption: str, how: How | None = None, rows: Sequence[Row] = ()
) -> Figure:
    """The drawing with its words and numbers."""
    for text in figure.findobj(Text):  # those that were written under other settings
        text.set_parse_math(False)
    return Figure(name, title, caption, figure, how, tuple(rows))


def line(axes: Axes, rows: list[Row], x: list[float], y: str, style: Style, label: str, alpha: float = 0.7) -> None:
    """One method over its keeps, in percent, with the interval of each point where there is one."""
    values = [100 * row[y] for row in rows]
    axes.plot(
        x, values, color=style.colour, marker=style.marker, linestyle=style.dash, linewidth=1.5,
        markersize=5, markeredgecolor="white", markeredgewidth=0.5, label=label,
    )  # fmt: skip
    if all(row.get(f"{y}_low") is not None and row.get(f"{y}_high") is not None for row in rows):
        low, high = ([100 * row[f"{y}_{end}"] for row in rows] for end in ("low", "high"))
        axes.vlines(x, low, high, color=style.colour, linewidth=1, alpha=alpha)


def floor_line(axes: Axes, agreement: float) -> None:
    """The agreement of a second run of the full model."""
    axes.axhline(100 * agreement, color="#333333", linewidth=1, linestyle=(0, (1, 1)))


def as_picture(grid: Sequence[Sequence[Axes]], points: int) -> None:
    """Draw what stands for more points than a browser should hold as a picture inside the drawing."""
    if points > MAX_VECTORS:
        for axes in (axes for row in grid for axes in row):
            for artist in (*axes.lines, *axes.collections):
                artist.set_rasterized(True)


def spread(items: Sequence[str], most: int) -> list[str]:
    """At most so many items, the ends included, evenly spaced: which keeps get a panel."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]
