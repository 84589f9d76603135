"""Calibration: whether answers are as often right as they are sure, and whether the margin foretells which change."""

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from lofi.cell import FLOOR, FULL
from lofi.report.audit import Audit
from lofi.report.how import How
from lofi.report.measured import MADE_BY, Measure, by_point, divergence, filled, query, shown_keep
from lofi.report.page import Block, Finding, Page, Prose
from lofi.report.reliability import NAMES, diagram
from lofi.report.sureness import fifths_figure, margin_tables
from lofi.report.tables import KEEP, METHOD, Column, Table, decimal, table, telling, text, whole
from lofi.report.words import SPACE, count, number
from lofi.tables import Row

SQL = ("stats/confidences.sql", "stats/calibration.py", "stats/logit_measures.sql")
NO_MEAN = Markup(
    "<p>No method ran on every model and dataset at one keep, so there is no figure; the tables have all.</p>"
)
READING = Markup(
    "<p>Dropping tokens may leave a model as sure as before while it is wrong more often; then ECE, Brier and NLL "
    "rise. AURC asks another thing: whether the surer answers are the ones that are right. The confidence of an answer "
    "read from options and that of a generated text are no one scale and stand in no table together.</p>"
)
ERRORS = ("confidence", "ece", "ece_null", "ece_corrected", "brier", "nll", "aurc")
MARGINS = ("options", "tokens")


def pages(audit: Audit) -> list[Page]:
    """One page: confidence, the channels apart, then margins."""
    keep = shown_keep(audit)
    of_channel = {channel: rows for channel in NAMES if (rows := _rows(audit, channel))}
    blocks: list[Block] = [_finding(channel, rows) for channel, rows in of_channel.items()] or [_ungraded()]
    if keep is None:
        blocks.append(Prose(NO_MEAN))
    for channel, rows in of_channel.items():
        figure = diagram(audit, channel, keep) if keep else None
        blocks += [*([figure] if figure else []), _table(audit, channel, rows)]
    if of_channel:
        blocks.append(Prose(READING))
    if keep and (figure := fifths_figure(audit, keep)):
        blocks.append(figure)
    for channel in MARGINS:
        blocks += margin_tables(audit, channel)
    return [Page("calibration", "Calibration", blocks, terms=("ece", "brier", "nll", "aurc", "margin-auroc"))]


def _asked(channel: str) -> tuple[str, tuple[Measure, ...]]:
    measures = tuple(Measure(channel, name) for name in ERRORS)
    return query(measures), measures


def _rows(audit: Audit, channel: str) -> list[Row]:
    """Points with a confidence or a likelihood of the right answer. The full model has no change from itself."""
    asked, measures = _asked(channel)
    rows = by_point(audit, audit.select(asked), measures)
    rows = [row for row in rows if row[f"n_{channel}_brier"] or row[f"n_{channel}_nll"]]
    own = {measure.key: None for measure in measures}
    return [row | own if row["method"] == FULL else row for row in rows]


def _ungraded() -> Finding:
    return Finding(
        "No answer of this sweep has both a grade and a confidence, so calibration cannot be told.",
        "A grade needs a right answer in the dataset; a confidence needs options, or likelihoods of generated tokens.",
    )


def _finding(channel: str, rows: Sequence[Row]) -> Finding:
    """In how many points the calibration error moves for certain, and what it is in full."""
    key = f"{channel}_ece"
    reduced = [row for row in rows if row["method"] not in (FULL, FLOOR) and row[key] is not None]
    up = sum((row[f"{key}_low"] or 0) > 0 for row in reduced)
    down = sum((row[f"{key}_high"] or 0) < 0 for row in reduced)
    full = [row for row in rows if row["method"] == FULL and row[f"{key}_value"] is not None]
    whose = NAMES[channel].capitalize()
    if not reduced or not full:
        return Finding(f"{whose}: the calibration error cannot be compared.", "No method has graded answers here.")
    of = f"of {count(len(reduced), 'combination')} of model, dataset, method and keep"
    headline = f"{whose}: the calibration error rises in {up} and falls in {down} {of}."
    n = sum(row[f"n_{channel}_brier"] for row in full)
    detail = (
        f"Rises and falls are counted where the 95{SPACE}% interval of the change of ECE leaves out 0. In full the ECE "
        f"is {_span(full, f'{key}_value')} over {count(len(full), 'pair')} of model and dataset "
        f"(n = {count(n, 'answer')}), where confidences that are true would show {_span(full, f'{key}_null_value')} on "
        "average."
    )
    return Finding(headline, detail)


def _span(rows: Sequence[Row], column: str) -> str:
    values = [float(row[column]) for row in rows if row[column] is not None]
    low, high = number(min(values), 3), number(max(values), 3)
    return low if low == high else f"{low} to {high}"


def _table(audit: Audit, channel: str, rows: list[Row]) -> Table:
    columns = [text("dataset", "dataset"), METHOD, KEEP, *filled(list(_columns(channel)), rows)]
    n = sum(row[f"n_{channel}_brier"] or 0 for row in rows)
    how = How(_asked(channel)[0], (*MADE_BY, *SQL), f"n = {count(n, 'graded answer')}, seeds added up")
    caption = f"Calibration of {NAMES[channel]}, and its change from full"
    return table(f"calibration-{channel}", caption, telling(audit, columns), rows, how=how)


def _columns(channel: str) -> Iterator[Column]:
    def of(name: str, end: str = "") -> str:
        return f"{channel}_{name}{end}"

    yield decimal("confidence", of("confidence", "_value"), "confidence", digits=3)
    for name, label in (("ece", "ECE"), ("brier", "Brier"), ("aurc", "AURC")):
        yield decimal(label, of(name, "_value"), name, digits=3)
        yield divergence(f"{label}, change", of(name), "change")
        if name == "ece":
            yield decimal("ECE by chance", of("ece_null", "_value"), "ece-null", digits=3)
            yield decimal("ECE corrected", of("ece_corrected", "_value"), "ece-corrected", digits=3)
    yield whole("n", f"n_{of('brier')}", "n")
    yield decimal("NLL", of("nll", "_value"), "nll", digits=3)
    yield divergence("NLL, change", of("nll"), "change")
    yield whole("n (NLL)", f"n_{of('nll')}", "n")
