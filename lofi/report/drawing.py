"""How every figure looks, and how it becomes inline SVG: one palette, one order, the same bytes from the same data."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import matplotlib
import seaborn as sns
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from lofi.report.how import How
from lofi.tables import Row

WIDTH = 9.2
LEGEND_LETTERS = 120  # that fit on one line, with 7 for each handle
MARKERS = "osD^vPX<>p*h"
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))
COLOURS = (0, 1, 2, 3, 4, 9, 5, 8, 6)  # of seaborn's "colorblind", strongest first; its grey is random's
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lofi",
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
            return svg(self.canvas, self.id, self.title, self.caption)


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


def svg(canvas: Canvas, name: str, title: str, description: str) -> Markup:
    """The drawing as inline SVG with text as text, its own ids, a title for screen readers and no dates."""
    buffer = io.StringIO()
    canvas.savefig(buffer, format="svg", dpi=150, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    head = re.search(r'viewBox="([^"]*)"', text)
    box = head.group(1) if head else "0 0 100 100"
    opening = (
        f'<svg viewBox="{box}" role="img" aria-labelledby="{name}-title {name}-desc" version="1.1" '
        f'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
    )
    return Markup(re.sub(r"^<svg[^>]*>", lambda _: opening, re.sub(r"\n\s*", "\n", text), count=1).strip())


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
    columns = max(1, -(-len(labels) // max(1, rows)))
    options: dict[str, Any] = {"handlelength": 2.3, "columnspacing": 1.1, "fontsize": 8.5, "frameon": False}
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, **options)


def finish(
    figure: Canvas, name: str, title: str, caption: str, how: How | None = None, rows: Sequence[Row] = ()
) -> Figure:
    """The drawing with its words and numbers."""
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
