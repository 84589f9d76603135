"""A report of many cells leaves out the last rows of its longest tables, and says how many."""

from lofi.report.fit import fitted
from lofi.report.page import Fold, Page, walk
from lofi.report.tables import Table, table, whole


def numbers(id: str, rows: int, columns: int) -> Table:
    return table(id, id, [whole(str(i), "n") for i in range(columns)], [{"n": row} for row in range(rows)])


def pages() -> list[Page]:
    fold = Fold("more", [numbers("long", 900, 4), numbers("short", 10, 5)])
    return [Page("one", "One", [numbers("middle", 300, 2), fold]), Page("two", "Two", [numbers("wide", 100, 10)])]


def tables(pages: list[Page]) -> dict[str, Table]:
    return {block.id: block for page in pages for block in walk(page.blocks) if isinstance(block, Table)}


def test_what_fits_stays_as_it_is() -> None:
    before = pages()
    assert fitted(before, 300 * 2 + 900 * 4 + 10 * 5 + 100 * 10) == before


def test_the_longest_tables_lose_their_last_rows() -> None:
    found = tables(fitted(pages(), 2500))
    shown = {id: (len(table.rows), table.left_out) for id, table in found.items()}
    assert shown == {"middle": (241, 59), "long": (241, 659), "short": (10, 0), "wide": (100, 0)}
    assert sum(len(table.rows) * len(table.columns) for table in found.values()) == 2496
    assert [row[0].text for row in found["long"].rows[:3]] == ["0", "1", "2"]


def test_what_was_left_out_before_is_counted_too() -> None:
    cut = table("long", "long", [whole("n", "n")], [{"n": row} for row in range(900)], most=500)
    (found,) = tables(fitted([Page("one", "One", [cut])], 300)).values()
    assert (len(found.rows), found.left_out) == (300, 600)
