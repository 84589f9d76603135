"""Figures and a table as files for a paper: SVG, PDF, CSV and LaTeX, the same bytes from the same tables."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib

from lofi.errors import UserError, unknown
from lofi.report.audit import Audit, read
from lofi.report.completeness import check_complete
from lofi.report.drawing import SETTINGS, Figure
from lofi.report.latex import agreement_table
from lofi.report.page import walk
from lofi.report.pages import PAGES
from lofi.store import replacing

TABLE = "agreement"
EMBEDDED = {**SETTINGS, "svg.fonttype": "path", "pdf.fonttype": 42}  # letters travel with the file
UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
Write = Callable[[Path], object]


def write(
    sweep: Mapping[str, Any], expected: Sequence[Path], tables: Path, output: Path, only: Sequence[str] = ()
) -> Iterator[Path]:
    """Write every figure of the report, or those that are named, and the table: each file once it is there.

    sweep, expected, tables: as for the report, which is refused under the same conditions.
    """
    audit = read(tables, sweep)
    check_complete(audit, expected)
    found = {figure.id: figure for figure in figures(audit)}
    for name in only:
        if name not in (*found, TABLE):
            raise unknown("figure", name, (*found, TABLE))
    for name, figure in found.items():
        if not only or name in only:
            for file, save in _files(figure):
                yield _written(output / file, save)
    if not only or TABLE in only:
        text = agreement_table(audit)
        yield _written(output / f"{TABLE}.tex", lambda path: path.write_text(text, encoding="utf-8"))


def figures(audit: Audit) -> list[Figure]:
    """Every figure of every page, in the order of the report."""
    pages = [page for make in PAGES for page in make(audit)]
    return [block for page in pages for block in walk(page.blocks) if isinstance(block, Figure)]


def _files(figure: Figure) -> Iterator[tuple[str, Write]]:
    """The names of a figure's files, and what writes each."""
    for form in ("svg", "pdf"):
        yield f"{figure.id}.{form}", partial(_save, figure, form)
    if figure.rows:
        yield f"{figure.id}.csv", lambda path: path.write_text(as_csv(figure), encoding="utf-8")


def _save(figure: Figure, form: str, path: Path) -> None:
    with matplotlib.rc_context(EMBEDDED):
        figure.canvas.savefig(path, format=form, dpi=300, metadata={**UNDATED[form], "Title": figure.title})


def as_csv(figure: Figure) -> str:
    """The numbers in a figure; what one row has and another lacks is empty there."""
    names = list(dict.fromkeys(name for row in figure.rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(figure.rows)
    return text.getvalue()


def _written(path: Path, save: Write) -> Path:
    try:
        with replacing(path) as temporary:
            save(temporary)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); give another --output") from error
    return path
