"""Provenance: how the samples were made, asked and graded, what failed, and the config of the sweep."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from markupsafe import Markup

from lofi import __version__
from lofi.report.audit import Audit
from lofi.report.how import How
from lofi.report.page import Block, Code, Fold, Listing, Page, Prose
from lofi.report.tables import table, text, whole
from lofi.report.words import NONE, count

MANY = 12  # values of one field that are still listed
PER_FILE = ("key", "cell", "rows", "shard")  # fields that say which file it is, not how it was made
FIRST = ("lofi", "commit", "numerics", "model_revision", "dataset_revision", "device", "machine", "dtype", "versions")
STAMPS = "SELECT path, provenance FROM runs ORDER BY path"
ASKED = {  # columns of the table runs: how a dataset was asked and graded
    "prompt_style": "prompt style",
    "scorer": "scorer",
    "scorer_version": "its version",
    "scoring_mode": "answers by",
    "template_hash": "conversation template",
    "image_mode": "image mode",
}
SETTINGS = (
    "SELECT dataset, model, "
    + ", ".join(f"string_agg(DISTINCT {c}::VARCHAR, '; ' ORDER BY {c}::VARCHAR) AS {c}" for c in ASKED)
    + " FROM runs GROUP BY dataset, model ORDER BY dataset, model"
)
FAILED = "SELECT path, errors, rows FROM runs WHERE errors > 0 ORDER BY errors DESC, path"
MADE_BY = ("stats/runs.sql",)


def pages(audit: Audit) -> list[Page]:
    """One page."""
    blocks = [_making(audit), _samples(audit), _settings(audit), *_failures(audit), _config(audit)]
    return [Page("provenance", "Provenance", blocks)]


def _making(audit: Audit) -> Listing:
    rows = [("report made by", f"lofi {__version__}"), ("command", audit.making.command or "not stated")]
    if audit.making.generated:
        rows.append(("generated", audit.making.generated))
    if audit.making.manifest:
        rows.append(("to compare and to make it again", f"lofi reproduce {audit.making.manifest}"))
    return Listing("How this report was made", ("field", "value"), rows)


def _samples(audit: Audit) -> Listing:
    how = How(STAMPS, MADE_BY, count(len(audit.runs), "sample file"))
    caption = "How the samples were made. Where their files differ, every value is listed."
    return Listing(caption, ("field", "value"), provenance(audit), how)


def provenance(audit: Audit) -> list[tuple[str, str]]:
    """Every field of the sample files' provenance with its distinct values, what matters first."""
    values: dict[str, dict[str, None]] = {}
    for run in audit.runs:
        for name, value in _flat(json.loads(run["provenance"]) if run["provenance"] else {}):
            values.setdefault(name, {})[value] = None
    return [(name, _values(sorted(values[name]))) for name in sorted(values, key=_place) if name not in PER_FILE]


def _place(name: str) -> tuple[int, str]:
    """What readers look for first stands first."""
    group = name.partition(".")[0]
    return (FIRST.index(group) if group in FIRST else len(FIRST), name)


def _values(found: list[str]) -> str:
    if len(found) <= MANY:
        return "; ".join(found)
    return f"{count(len(found))} different values, such as {found[0]}"


def _flat(stamp: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in stamp.items():
        if isinstance(value, Mapping):
            yield from _flat(value, "" if name == "constants" else f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _settings(audit: Audit) -> Listing:
    """How each dataset was put to each model and graded."""
    rows = [(row["dataset"], row["model"], *(row[name] or NONE for name in ASKED)) for row in audit.select(SETTINGS)]
    rows.sort(key=lambda row: (audit.datasets.index(row[0]), audit.models.index(row[1])))
    how = How(SETTINGS, MADE_BY, count(len(audit.runs), "sample file"))
    caption = "How each dataset was asked and graded. Figures compare only where these are the same."
    return Listing(caption, ("dataset", "model", *ASKED.values()), rows, how)


def _failures(audit: Audit) -> list[Block]:
    failed = audit.select(FAILED)
    if not failed:
        return [Prose(Markup("<p>No sample failed.</p>"))]
    columns = (text("sample file", "path"), whole("failed", "errors"), whole("samples", "rows", "n"))
    n = sum(row["rows"] for row in failed)
    how = How(FAILED, MADE_BY, f"n = {count(n, 'sample')} of these files")
    return [table("failures", "Sample files with failed samples", columns, failed, how=how)]


def _config(audit: Audit) -> Fold:
    return Fold("Config of the sweep", [Code(json.dumps(dict(audit.config), indent=2))])
