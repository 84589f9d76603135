"""How much of the tables a report holds: all of a small sweep's, and of a large one as many rows as it can carry."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace

from lofi.report.page import Block, Fold, Page, walk
from lofi.report.tables import Table

MOST_ENTRIES = 300_000  # in all tables together: 7 MB of the file


def fitted(pages: Sequence[Page], most: int = MOST_ENTRIES) -> list[Page]:
    """The pages with tables of at most `most` entries together: the longest tables lose their last rows, and say so."""
    tables = [block for page in pages for block in walk(page.blocks) if isinstance(block, Table)]
    longest = max((len(table.rows) for table in tables), default=0)

    def entries(rows: int) -> int:
        return sum(min(len(table.rows), rows) * len(table.columns) for table in tables)

    if entries(longest) <= most:
        return list(pages)
    rows = bisect_right(range(longest + 1), most, key=entries) - 1
    return [replace(page, blocks=[_cut(block, rows) for block in page.blocks]) for page in pages]


def _cut(block: Block, rows: int) -> Block:
    if isinstance(block, Fold):
        return replace(block, blocks=[_cut(inner, rows) for inner in block.blocks])
    if not isinstance(block, Table) or len(block.rows) <= rows:
        return block
    return replace(block, rows=block.rows[:rows], left_out=block.left_out + len(block.rows) - rows)
