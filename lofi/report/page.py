"""What a page of the report is made of. Everything here is text and numbers; `render` turns it into HTML."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from lofi.report.drawing import Figure
from lofi.report.tables import Table


@dataclass(frozen=True)
class Prose:
    """A paragraph in lofi's own words: the only place where markup is written by hand. Data goes in through `format`,
    which escapes it: `Prose(Markup("<p>… {} …</p>").format(name))`.
    """

    html: Markup


@dataclass(frozen=True)
class Finding:
    """What the data say, computed from them: a headline and the numbers under it."""

    headline: str
    detail: str


@dataclass(frozen=True)
class Fold:
    """Blocks that a reader may open."""

    summary: str
    blocks: Sequence["Block"]


Block = Prose | Finding | Figure | Table | Fold


@dataclass(frozen=True)
class Page:
    """One entry of the navigation."""

    id: str  # its anchor
    title: str
    blocks: Sequence[Block]
    group: str = ""  # pages of one group stand under one heading of the navigation
    badge: int = 0  # how many warnings it holds
    terms: tuple[str, ...] = field(default=())  # ids of definitions that it leads with
