"""What tests of pages read from them, and tables that differ from others in one thing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lofi.report.audit import Audit, read
from lofi.report.drawing import Figure
from lofi.report.page import Block, Page, walk
from lofi.report.tables import Table


def blocks_of(blocks: Sequence[Block], kind: Any) -> dict[str, Any]:
    """The blocks of one kind, also those inside folds, by their id."""
    return {block.id: block for block in walk(blocks) if isinstance(block, kind)}


def tables(page: Page) -> dict[str, Table]:
    """All tables of a page, by their id."""
    return blocks_of(page.blocks, Table)


def figures(page: Page) -> dict[str, Figure]:
    """All figures of a page, by their id."""
    return blocks_of(page.blocks, Figure)


def labels(table: Table) -> list[str]:
    """The headers of a table."""
    return [column.label for column in table.columns]


def plain(text: str) -> str:
    """A text with ordinary spaces."""
    return text.replace("\xa0", " ")


def cells_of(table: Table) -> list[dict[str, str]]:
    """The rows of a table as a reader sees them, by column."""
    return [{c.label: plain(e.text) for c, e in zip(table.columns, row, strict=True)} for row in table.rows]


def edited(audit: Audit, folder: Path, **tables: str) -> Audit:
    """The same tables, but for those that are given as a SELECT over the old ones."""
    for name in audit.source.names:
        audit.source.connection.execute(f"COPY ({tables.get(name, f'FROM {name}')}) TO '{folder / name}.parquet'")
    return read(folder, audit.config)
