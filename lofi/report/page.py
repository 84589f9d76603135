"""What a page of the report is made of. Everything here is text and numbers; `render` turns it into HTML."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from lofi.report.drawing import Figure
from lofi.report.how import How
from lofi.report.side import Side
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
    how: How | None = None


@dataclass(frozen=True)
class Caution:
    """One thing a reader must know before believing a number."""

    title: str
    detail: str


@dataclass(frozen=True)
class Tally:
    """Named counts."""

    entries: Sequence[tuple[str, str]]
    how: How | None = None


@dataclass(frozen=True)
class Listing:
    """Texts in rows, the first of each row naming it: what is read, not compared."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    how: How | None = None


@dataclass(frozen=True)
class Code:
    """A text shown as it is."""

    text: str


@dataclass(frozen=True)
class Explorer:
    """Changed answers to look at one by one, out of the files beside the page."""

    side: Side
    how: How


@dataclass(frozen=True)
class Fold:
    """Blocks that a reader may open."""

    summary: str
    blocks: Sequence["Block"]
    id: str = ""  # its anchor, where something links to it


Block = Prose | Finding | Caution | Tally | Listing | Code | Figure | Table | Explorer | Fold


@dataclass(frozen=True)
class Page:
    """One entry of the navigation."""

    id: str  # its anchor
    title: str
    blocks: Sequence[Block]
    group: str = ""  # pages of one group stand under one heading of the navigation
    badge: int = 0  # how many warnings it holds
    terms: tuple[str, ...] = field(default=())  # ids of definitions that it leads with


def walk(blocks: Iterable[Block]) -> Iterator[Block]:
    """Every block, also those inside folds."""
    for block in blocks:
        yield block
        if isinstance(block, Fold):
            yield from walk(block.blocks)
