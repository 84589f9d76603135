"""The columns of tables about shifts of spectra: which shift it is, and how likely it is by chance."""

from collections.abc import Sequence

from lofi.report.tables import Column, text
from lofi.report.words import NONE, SITES, p_value
from lofi.tables import Row

STATISTIC = text("statistic", "statistic", "spectral-statistics")
SITE = Column("site", lambda row: SITES[row["site"]], lambda row: row["site"], "sites", numeric=False)
TOKENS = text("tokens", "tokens", "token-sets")


def form(row: Row) -> str:
    """Whether the tokens were centred."""
    return "centred" if row["centred"] else "raw"


FORM = Column("form", form, form, "centred", numeric=False)
RESAMPLED = Column(
    "resampled",
    lambda row: "(model, dataset)" if row["resampled"] == "model_dataset" else row["resampled"] or "",
    lambda row: row["resampled"],
    "correlation",
    numeric=False,
)
NOTE = Column("note", lambda row: row["note"] or "", lambda row: row["note"], numeric=False)


def probability(label: str, column: str, definition: str) -> Column:
    """A p value."""

    def write(row: Row) -> str:
        return NONE if row[column] is None else p_value(row[column]).removeprefix("p ").removeprefix("= ")

    return Column(label, write, lambda row: row[column], definition)


def noted(columns: Sequence[Column], rows: Sequence[Row]) -> list[Column]:
    """Without the column of notes where no row has one."""
    return [column for column in columns if column is not NOTE or any(row["note"] for row in rows)]
