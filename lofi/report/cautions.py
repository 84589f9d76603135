"""What a reader must know before believing a number, the worst first."""

from lofi.cell import FLOOR, FULL, KEEP_ALL, OWN_COUNT
from lofi.report.audit import Audit
from lofi.report.completeness import tail
from lofi.report.page import Caution
from lofi.report.words import count, first_of, keep_name, number, percent
from lofi.tables import Row

NAMED = 5  # cells named in one line before "and n more"
SMALL_N = 100
UNPARSED = 0.02
KEPT_OFF = 0.51  # the count of one image is rounded, so a mean is at most half off
LAYER_MEAN_OFF = 0.99  # stages inside the LLM keep whole tokens, so a mean over layers is less than one off


def cautions(audit: Audit) -> list[Caution]:
    """Everything suspicious, the worst first."""
    found = [_errors(audit), _no_ops(audit), _budgets(audit), _floor(audit), _unparsed(audit), _small(audit)]
    return [warning for warning in found if warning is not None]


def _cell(row: Row) -> str:
    return f"{row['model']} / {row['dataset']} / {row['method']} / {keep_name(row['keep'])} / seed {row['seed']}"


def _treated(audit: Audit) -> list[Row]:
    return [c for c in audit.cells if c["method"] not in (FULL, FLOOR) and c["keep"] != KEEP_ALL]


def _errors(audit: Audit) -> Caution | None:
    broken = sorted((r for r in audit.runs if r["errors"]), key=lambda r: (-r["errors"], r["path"]))
    if not broken:
        return None
    total = sum(run["errors"] for run in broken)
    names = [f"{tail(run['path'])} ({count(run['errors'])} of {count(run['rows'])})" for run in broken]
    return Caution(
        f"{count(total, 'sample')} in {count(len(broken), 'file')} failed",
        f"A rate leaves out what failed in its cell or in full. Most in {first_of(names, 2)}; provenance has the list.",
    )


def _no_ops(audit: Audit) -> Caution | None:
    names = [_cell(c) for c in _treated(audit) if c["agreement"] == 1]
    if not names:
        return None
    return Caution(
        f"{count(len(names), 'cell')} below keep 1 changed no answer",
        f"A reducer that does nothing looks like this; check that it acts. {first_of(names, NAMED)}.",
    )


def _budgets(audit: Audit) -> Caution | None:
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
    title = f"{count(len(names), 'cell')} kept another number of tokens than asked for"
    return Caution(title, f"{first_of(names, NAMED)}.")


def _asked(cell: Row) -> float | None:
    """The tokens that the keep asks for, on average; None where the method sets its own count."""
    if cell["keep"] == OWN_COUNT or cell.get("full_tokens") is None:
        return None
    return max(1.0, float(cell["keep"]) * (cell["full_tokens"] if "." in cell["keep"] else 1))


def _floor(audit: Audit) -> Caution | None:
    floors = [c for c in audit.cells if c["method"] == FLOOR and c["agreement"] is not None]
    without = [f"{m} / {d}" for m, d in audit.pairs if (m, d) not in {(c["model"], c["dataset"]) for c in floors}]
    if without:
        return Caution("The noise floor is missing", f"No second full run of {first_of(without, NAMED)}.")
    loud = [f"{c['model']} / {c['dataset']} ({percent(1 - c['agreement'])})" for c in floors if c["agreement"] < 1]
    if not loud:
        return None
    return Caution(
        "Running the full model again changes answers",
        f"Compare every method with this noise floor: {first_of(loud, NAMED)}.",
    )


def _unparsed(audit: Audit) -> Caution | None:
    found = [c for c in audit.cells if (c.get("unparsed") or 0) > UNPARSED]
    names = [f"{_cell(c)} ({percent(c['unparsed'])})" for c in sorted(found, key=lambda c: -c["unparsed"])]
    if not names:
        return None
    title = f"{count(len(names), 'cell')} with more than {percent(UNPARSED, 0)} unparsed answers"
    return Caution(title, f"An unparsed answer counts as wrong. Most in {first_of(names, 3)}.")


def _small(audit: Audit) -> Caution | None:
    smallest = min(c["n"] for c in audit.cells)
    if smallest >= SMALL_N:
        return None
    return Caution(
        f"Some cells hold only {count(smallest, 'sample')}",
        f"Below {SMALL_N} samples an interval of agreement is often wider than the differences between methods.",
    )
