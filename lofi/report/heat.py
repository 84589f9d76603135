"""Heat maps whose numbers can be read without their colours."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from numpy.typing import NDArray

from lofi.report.drawing import SETTINGS, WIDTH

LETTER = 0.075  # inches of one letter of a label
DARK = 0.18  # a colour of less luminance has more contrast to white than to black


@dataclass(frozen=True)
class Written:
    """One number of a heat map: how it is written, and how strongly."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Scale:
    """Which colours the values get, from the least to the greatest."""

    low: float
    high: float
    palette: str


def heat(
    axes: Axes,
    values: Sequence[Sequence[float | None]],
    written: Sequence[Sequence[Written]],
    names: tuple[Sequence[str], Sequence[str]],
    scale: Scale,
) -> None:
    """Colour a grid of values (rows, columns), white where there is none, and write its numbers on it.

    names: of the rows and of the columns.
    """
    grid = np.array([[np.nan if value is None else value for value in row] for row in values], dtype=float)
    colours = sns.color_palette(scale.palette, as_cmap=True)
    share = (grid - scale.low) / (scale.high - scale.low)
    pixels = colours(np.where(np.isnan(share), 0, np.clip(share, 0, 1)))
    pixels[np.isnan(grid)] = 1.0
    with matplotlib.rc_context(SETTINGS):
        axes.imshow(pixels, interpolation="none", aspect="auto")
        _label(axes, names)
        letters = max((len(line) for row in written for number in row for line in number.text.split("\n")), default=0)
        size = _letter_size(grid.shape[1], names[0], letters)
        for at, row in enumerate(written):
            for place, number in enumerate(row):
                if number.text:
                    axes.text(
                        place, at, number.text, ha="center", va="center", fontsize=size, parse_math=False,
                        color="white" if _luminance(pixels[at, place]) < DARK else "black",
                        fontweight="bold" if number.bold else "normal", linespacing=1.05,
                    )  # fmt: skip


def _label(axes: Axes, names: tuple[Sequence[str], Sequence[str]]) -> None:
    """Names at both sides, without lines between the cells."""
    rows, columns = names
    axes.set_xticks(
        range(len(columns)), columns, rotation=35 if len(columns) < 16 else 60, ha="right", parse_math=False
    )
    axes.set_yticks(range(len(rows)), rows, parse_math=False)
    axes.tick_params(length=0)
    axes.grid(False)
    for tick in axes.get_xticklabels():
        tick.set_rotation_mode("anchor")
    sns.despine(ax=axes, left=True, bottom=True)


def _luminance(colour: NDArray[np.floating]) -> float:
    """The relative luminance of an sRGB colour, as contrast is measured by."""
    linear = np.where(colour[:3] <= 0.04045, colour[:3] / 12.92, ((colour[:3] + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def _letter_size(columns: int, names: Sequence[str], letters: int) -> float:
    """The size at which so many letters fit into a column beside the names of the rows, in points."""
    room = WIDTH - 0.4 - LETTER * max((len(name) for name in names), default=0)
    return float(min(8.5, max(4.0, 72 * room / max(1, columns) / (0.85 * max(1, letters)))))
