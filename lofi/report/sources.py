"""The files and functions that numbers come from, as text for the page."""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from markupsafe import Markup

from lofi.report.how import How
from lofi.report.page import Code, Fold, Page, Prose, walk

PACKAGE = Path(__file__).parent.parent
WHAT = Markup(
    "<p>The SQL and the functions that the numbers of this report were made by, as they are in the package that made "
    "it. What links here is the <em>How</em> under each table and figure.</p>"
)


def anchor(name: str) -> str:
    """Where the page shows a source: `stats/cells.sql` is at `src-stats-cells-sql`."""
    return "src-" + re.sub(r"[^0-9A-Za-z]+", "-", name)


@cache
def text(name: str) -> str:
    """A whole file, as `stats/cells.sql`, or one function or class of it, as `stats/resample.py:resample`."""
    file, _, wanted = name.partition(":")
    path = PACKAGE / file
    if not path.is_file() or not path.resolve().is_relative_to(PACKAGE.resolve()):
        raise LookupError(f"the source {name!r} is not a file of the package; name one such as 'stats/cells.sql'")
    whole = path.read_text(encoding="utf-8")
    if not wanted:
        return whole
    for node in ast.parse(whole).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == wanted:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            return "\n".join(whole.splitlines()[first - 1 : node.end_lineno]) + "\n"
    raise LookupError(f"the source {name!r} names no function or class of {file}")


def hows(pages: Iterable[Page]) -> Iterator[How]:
    """Where every number of the pages comes from."""
    for page in pages:
        for block in walk(page.blocks):
            if (how := getattr(block, "how", None)) is not None:
                yield how


def sources_page(pages: Iterable[Page]) -> Page:
    """Everything that any number is made by, each once."""
    names = sorted({name for how in hows(pages) for name in how.made_by})
    folds = [Fold(name, [Code(text(name))], anchor(name)) for name in names]
    return Page("sources", "Sources", [Prose(WHAT), *folds])
