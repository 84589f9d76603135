"""What holds of every page: its queries print its numbers, its sources exist, its columns are defined."""

from typing import Any

from lofi.report.audit import Audit
from lofi.report.drawing import Figure
from lofi.report.page import Finding, Page, walk
from lofi.report.pages.definitions import pages as definitions
from lofi.report.sources import text
from lofi.report.tables import Table


def checked(pages: list[Page], audit: Audit) -> dict[str, Any]:
    """The blocks of one page by id, after the checks; the finding as `finding`."""
    [page] = pages
    [defined] = definitions(audit)
    terms = "".join(str(getattr(block, "html", "")) for block in walk(defined.blocks))
    assert page.group == "Spectra"
    assert isinstance(page.blocks[0], Finding)
    found: dict[str, Any] = {"finding": page.blocks[0]}
    for term in page.terms:
        assert f'id="def-{term}"' in terms, term
    for block in walk(page.blocks):
        if isinstance(block, Figure | Table):
            assert block.id not in found
            found[block.id] = block
            assert block.how is not None
            assert "n = " in block.how.n
            assert all(text(name) for name in block.how.made_by)
            assert "--" not in block.how.query  # on one line, a comment would end it
            assert audit.select(block.how.query)
        if isinstance(block, Figure):
            assert block.title.endswith(".")
            assert block.caption.endswith(".")
            assert block.rows
            assert "<title" in block.svg
        if isinstance(block, Table):
            assert block.rows
            for column in block.columns:
                assert not column.definition or f'id="def-{column.definition}"' in terms, column
    return found


def column(table: Table, label: str) -> list[str]:
    """What one column says, row by row."""
    place = [c.label for c in table.columns].index(label)
    return [row[place].text for row in table.rows]


def finding(pages: list[Page]) -> Finding:
    """What a page leads with."""
    [page] = pages
    assert isinstance(page.blocks[0], Finding)
    return page.blocks[0]
