"""Warnings first, then what the sweep holds and how it was made."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lofi.cell import FLOOR, FULL, KEEP_ALL, OWN_COUNT
from lofi.errors import UserError
from lofi.report.audit import Audit
from lofi.report.words import NONE, count, keep_name, number, percent
from lofi.store import read_metadata
from lofi.tables import Row

NAMED = 5  # cells or values named in one line before "and n more"
MANY = 12  # values of one field that are still listed
PER_FILE = ("key", "cell", "rows", "shard")  # fields that say which file it is, not how it was made
FIRST = ("lofi", "commit", "numerics", "model_revision", "dataset_revision", "device", "machine", "dtype", "versions")
STATED = ("model_revision", "dataset_revision", "dtype", "attn_impl", "positions")  # columns of the runs table
# columns of the runs table: how a dataset was asked and graded
ASKED = ("prompt_style", "scorer", "scorer_version", "scoring_mode", "template_hash", "image_mode")
SMALL_N = 100
UNPARSED = 0.02
KEPT_OFF = 0.51  # the count of one image is rounded, so a mean is at most half off
LAYER_MEAN_OFF = 0.99  # stages inside the LLM keep whole tokens, so a mean over layers is less than one off


@dataclass(frozen=True)
class Warning:
    """One thing a reader must know before believing a number."""

    title: str
    detail: str


def check_complete(audit: Audit, expected: Sequence[Path]) -> None:
    """Refuse to report when a cell is missing, or when a cell is newer than the tables."""
    missing = [str(path) for path in expected if not path.is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(expected)} cells are missing: {_named(missing, 20)}; "
            "run the sweep again to make them"
        )
    stamped = {_tail(run["path"]): run["key"] for run in audit.runs}
    stale = [str(path) for path in expected if stamped.get(_tail(path)) != read_metadata(path).get("key")]
    if stale:
        raise UserError(
            f"{len(stale)} of {len(expected)} cells are not in the tables as they are on disk: {_named(stale, 20)}; "
            "run `lofi aggregate` again"
        )


def _tail(path: object) -> str:
    """A sample file from `model=` on: the same for a relative and an absolute path."""
    text = Path(str(path)).as_posix()
    return text[text.find("model=") :] if "model=" in text else text


def _named(names: Sequence[str], most: int = NAMED) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def warnings(audit: Audit) -> list[Warning]:
    """Everything suspicious, the worst first."""
    found = [_errors(audit), _no_ops(audit), _budgets(audit), _floor(audit), _unparsed(audit), _small(audit)]
    return [warning for warning in found if warning is not None]


def _cell(row: Row) -> str:
    return f"{row['model']} / {row['dataset']} / {row['method']} / {keep_name(row['keep'])} / seed {row['seed']}"


def _treated(audit: Audit) -> list[Row]:
    return [c for c in audit.cells if c["method"] not in (FULL, FLOOR) and c["keep"] != KEEP_ALL]


def _errors(audit: Audit) -> Warning | None:
    broken = sorted((r for r in audit.runs if r["errors"]), key=lambda r: (-r["errors"], r["path"]))
    if not broken:
        return None
    total = sum(run["errors"] for run in broken)
    names = [f"{_tail(run['path'])} ({count(run['errors'])} of {count(run['rows'])})" for run in broken]
    return Warning(
        f"{count(total, 'sample')} in {count(len(broken), 'file')} failed",
        f"A rate leaves out what failed in its cell or in full. Most in {_named(names, 2)}; provenance has the list.",
    )


def _no_ops(audit: Audit) -> Warning | None:
    names = [_cell(c) for c in _treated(audit) if c["agreement"] == 1]
    if not names:
        return None
    return Warning(
        f"{count(len(names), 'cell')} below keep 1 changed no answer",
        f"A reducer that does nothing looks like this; check that it acts. {_named(names)}.",
    )


def _budgets(audit: Audit) -> Warning | None:
    """A budget is met by the mean count after the last prune, or by the mean over layers: by either, over a cell."""
    names = []
    for cell in _treated(audit):
        kept, mean, asked = cell.get("kept_tokens"), cell.get("layer_mean_tokens"), _asked(cell)
        if kept is None or asked is None or abs(kept - asked) <= KEPT_OFF:
            continue
        if mean is None or abs(mean - asked) > LAYER_MEAN_OFF:
            layers = "" if mean is None or abs(mean - kept) < 0.05 else f", {number(mean, 1)} over layers"
            names.append(f"{_cell(cell)} (kept {number(kept, 1)}{layers}, asked {number(asked, 1)})")
    if not names:
        return None
    return Warning(f"{count(len(names), 'cell')} kept another number of tokens than asked for", f"{_named(names)}.")


def _asked(cell: Row) -> float | None:
    """The tokens that the keep asks for, on average; None where the method sets its own count."""
    if cell["keep"] == OWN_COUNT or cell.get("full_tokens") is None:
        return None
    return max(1.0, float(cell["keep"]) * (cell["full_tokens"] if "." in cell["keep"] else 1))


def _floor(audit: Audit) -> Warning | None:
    floors = [c for c in audit.cells if c["method"] == FLOOR and c["agreement"] is not None]
    without = [f"{m} / {d}" for m, d in audit.pairs if (m, d) not in {(c["model"], c["dataset"]) for c in floors}]
    if without:
        return Warning("The noise floor is missing", f"No second full run of {_named(without)}.")
    loud = [f"{c['model']} / {c['dataset']} ({percent(1 - c['agreement'])})" for c in floors if c["agreement"] < 1]
    if not loud:
        return None
    return Warning(
        "Running the full model again changes answers",
        f"Compare every method with this noise floor: {_named(loud)}.",
    )


def _unparsed(audit: Audit) -> Warning | None:
    found = [c for c in audit.cells if (c.get("unparsed") or 0) > UNPARSED]
    names = [f"{_cell(c)} ({percent(c['unparsed'])})" for c in sorted(found, key=lambda c: -c["unparsed"])]
    if not names:
        return None
    title = f"{count(len(names), 'cell')} with more than {percent(UNPARSED, 0)} unparsed answers"
    return Warning(title, f"An unparsed answer counts as wrong. Most in {_named(names, 3)}.")


def _small(audit: Audit) -> Warning | None:
    smallest = min(c["n"] for c in audit.cells)
    if smallest >= SMALL_N:
        return None
    return Warning(
        f"Some cells hold only {count(smallest, 'sample')}",
        f"Below {SMALL_N} samples an interval of agreement is often wider than the differences between methods.",
    )


def counts(audit: Audit, expected: Sequence[Path]) -> list[tuple[str, str]]:
    """What the sweep holds."""
    per_cell = sorted({c["n"] + c["n_errors"] for c in audit.cells})
    span = count(per_cell[0]) if len(per_cell) == 1 else f"{count(per_cell[0])} to {count(per_cell[-1])}"
    files = count(len(expected)) if expected else "not stated"
    return [
        ("cells found", count(len(audit.cells))),
        ("sample files expected", files),
        ("sample files found", count(len(audit.runs))),
        ("samples per cell", span),
        ("models", count(len(audit.models))),
        ("datasets", count(len(audit.datasets))),
        ("methods", count(len(audit.methods))),
        ("keeps", count(len(audit.keeps))),
        ("failed samples", count(sum(run["errors"] for run in audit.runs))),
    ]


def provenance(audit: Audit) -> list[tuple[str, str]]:
    """How the samples were made: every field of the sample files' provenance with its distinct values."""
    values: dict[str, dict[str, None]] = {}
    for run in audit.runs:
        stamp = run["provenance"]
        stamp = json.loads(stamp) if isinstance(stamp, str) and stamp else stamp
        stated = {name: run[name] for name in STATED if run.get(name) is not None}
        for name, value in _flat({**(stamp if isinstance(stamp, Mapping) else {}), **stated}):
            values.setdefault(name, {})[value] = None
    return [(name, _values(sorted(values[name]))) for name in sorted(values, key=_place) if name not in PER_FILE]


def settings(audit: Audit) -> list[tuple[str, ...]]:
    """How each dataset was put to each model and graded: dataset, model, and a text for each of `ASKED`."""
    rows = []
    for model, dataset in sorted(audit.pairs, key=lambda pair: (audit.datasets.index(pair[1]), pair)):
        runs = [run for run in audit.runs if (run["model"], run["dataset"]) == (model, dataset)]
        found = [sorted({str(run[name]) for run in runs if run.get(name) is not None}) for name in ASKED]
        rows.append((dataset, model, *("; ".join(values) or NONE for values in found)))
    return rows


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
