"""A report is refused while a cell is missing, or newer than the tables."""

from collections.abc import Sequence
from pathlib import Path

from lofi.errors import UserError
from lofi.report.audit import Audit
from lofi.report.words import first_of
from lofi.store import read_metadata

NAMED = 20


def check_complete(audit: Audit, expected: Sequence[Path]) -> None:
    """Refuse to report when a cell is missing, or when a cell is newer than the tables."""
    missing = [str(path) for path in expected if not path.is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(expected)} cells are missing: {first_of(missing, NAMED)}; "
            "run the sweep again to make them"
        )
    stamped = {tail(run["path"]): run["key"] for run in audit.runs}
    stale = [str(path) for path in expected if stamped.get(tail(path)) != read_metadata(path).get("key")]
    if stale:
        raise UserError(
            f"{len(stale)} of {len(expected)} cells are not in the tables as they are on disk: "
            f"{first_of(stale, NAMED)}; run `lofi aggregate` again"
        )


def tail(path: object) -> str:
    """A sample file from `model=` on: the same for a relative and an absolute path."""
    text = Path(str(path)).as_posix()
    return text[text.find("model=") :] if "model=" in text else text
