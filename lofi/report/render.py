"""Pages to the text of one HTML file. Everything but lofi's own style, script and drawings is escaped."""

import base64
import hashlib
import json
import shlex
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from lofi.report.definitions import names
from lofi.report.drawing import Figure
from lofi.report.how import How
from lofi.report.page import Block, Explorer, Page, walk
from lofi.report.sources import anchor
from lofi.report.tables import Column, Entry, Table
from lofi.report.words import MINUS, NONE, SPACE

HERE = Path(__file__).parent
SCRIPTS = ("start.js", "app.js", "explorer.js")
SPECIAL = '"$`\\!'  # what a shell reads inside double quotes


def render(pages: Sequence[Page], *, title: str, lede: str) -> str:
    """The whole file. title: what the browser's tab says after the page's own; lede: what the sweep is."""
    start, *scripts = (Markup((HERE / name).read_text(encoding="utf-8")) for name in SCRIPTS)
    blocks = walk(block for page in pages for block in page.blocks)
    widest = max((len(block.columns) for block in blocks if isinstance(block, Table)), default=0)
    return environment().get_template("template.html.j2").render(
        pages=pages,
        menu=[(group, list(members)) for group, members in groupby(pages, lambda page: page.group)],
        defined=names(),
        title=title,
        lede=lede,
        style=Markup((HERE / "style.css").read_text(encoding="utf-8")),
        widest=widest,
        start=start,
        scripts=scripts,
        digests=[_digest(text) for text in (start, *scripts)],
    )  # fmt: skip


def environment() -> Environment:
    """Templates, with what they call."""
    made = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.globals |= {"kind": kind, "body": body, "shape": shape, "data": data, "command": command, "anchor": anchor}
    made.globals |= {"packable": packable}
    return made


def kind(block: Block) -> str:
    """The macro that prints a block."""
    return type(block).__name__.lower()


def packable(page: Page) -> bool:
    """Whether a page may stand inside <noscript>: not if it has one itself, as the explorer does."""
    return not any(isinstance(block, Explorer) for block in walk(page.blocks))


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def command(how: How) -> str:
    """The line that asks for the numbers again."""
    query = " ".join(how.query.split())
    quoted = shlex.quote(query) if any(letter in query for letter in SPECIAL) else f'"{query}"'
    return f"lofi query {quoted}"


def shape(table: Table) -> str:
    """The classes of a table that put its numbers to the right: said once, not in every cell."""
    return " ".join(f"n{i}" for i, column in enumerate(table.columns, start=1) if column.numeric)


def body(table: Table) -> Markup:
    """All rows. The ends of cells and rows may be left out in HTML; in a large table they are a tenth of it."""
    lines = []
    for i, row in enumerate(table.rows):
        marked = " class=marked" if i in table.marked else ""
        cells = (_cell(column, entry) for column, entry in zip(table.columns, row, strict=True))
        lines.append(f"<tr{marked}>{''.join(cells)}")
    return Markup("\n".join(lines))


def _cell(column: Column, entry: Entry) -> str:
    """One cell; `data-v` has its number, and the bounds where the column has them, if the text does not say it."""
    if column.bounds:
        stated = f"{entry.value},{entry.low or ''},{entry.high or ''}"
        known = stated == ",,"
    else:
        stated = entry.value
        known = _read_back(entry.text, column.numeric) == stated
    value = "" if known else f' data-v="{escape(stated)}"'
    bar = "" if entry.bar is None else f' style="--v:{entry.bar:g}"'
    return f"<td{value}{bar}>{escape(entry.text)}"


def _read_back(text: str, numeric: bool) -> str:
    """What the script reads out of a cell's text."""
    if text == NONE:
        return ""
    return text.replace(MINUS, "-").replace(SPACE, "") if numeric else text


def data(figure: Figure) -> Markup:
    """The numbers of a figure as JSON for a script element: nothing in it can end that element."""
    columns = list(dict.fromkeys(column for row in figure.rows for column in row))
    rows = [[_short(row.get(column)) for column in columns] for row in figure.rows]
    text = json.dumps({"columns": columns, "rows": rows}, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


def _short(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value if isinstance(value, int | None) else str(value)
