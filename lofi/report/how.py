"""Where a number of the report comes from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class How:
    """Where the numbers of a table or figure come from: each can be asked for again."""

    query: str  # one SELECT over the tables that prints them: what `lofi query` takes
    made_by: tuple[str, ...]  # files and functions, as `stats/cells.sql` and `stats/resample.py:resample`
    n: str  # what they are over, as `n = 1 200 answers to 300 images`
