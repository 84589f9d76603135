"""Flips: what became of the answers that changed, and how far the distributions behind them moved."""

from collections.abc import Sequence

from markupsafe import Markup

from lofi.report.audit import Audit, mean_row
from lofi.report.flip_classes import drawn, how, means, shared_keeps
from lofi.report.flip_classes import query as classes
from lofi.report.how import How
from lofi.report.measured import MADE_BY, Measure, by_point, divergence, excess, filled, place, query
from lofi.report.page import Block, Finding, Fold, Page, Prose
from lofi.report.sentences import floor_phrase
from lofi.report.tables import KEEP, METHOD, MOST, Column, Table, decimal, share, table, telling, text, whole
from lofi.report.words import count, interval, keep_label, keep_name, number, percent, points
from lofi.tables import Row

MOST_FOLDED = 1000  # rows of a table that is folded away; a longer one is read with its query
CHANGED, UNPARSED = Measure("answer", "divergence_rate"), Measure("answer", "unparsed")
KAPPA, KAPPA_CORRECT = Measure("answer", "kappa"), Measure("answer", "kappa_correct")
DRIFT, PLACES = Measure("answer", "answer_drift"), Measure("answer", "position_drift")
YES, FIRST = Measure("answer", "yes_rate"), Measure("answer", "first_option")
LOST = Measure("answer", "neg_flip_given_right")
DISTANCES = {channel: tuple(Measure(channel, name) for name in ("kl", "js", "tv")) for channel in ("options", "tokens")}
MEASURES = (
    *(CHANGED, UNPARSED, KAPPA, KAPPA_CORRECT, DRIFT, PLACES, YES, FIRST, LOST),
    *(measure for channel in DISTANCES.values() for measure in channel),
)
QUERY = query(MEASURES, "method <> 'full'")
READING = Markup(
    "<p>A changed answer is lost, gained or exchanged: the figure and the first table count them. The other tables say "
    "how far the answers moved beyond what a second run of the full model moves them. A dash stands where a measure is "
    "not defined: without a floor, without answers of its kind, or without a flip that accuracy shows.</p>"
)
DATASET = text("dataset", "dataset")


def _class(label: str, column: str, definition: str) -> tuple[Column, Column]:
    return (whole(f"{label} (n)", f"n_{column}", definition), share(f"{label} (%)", column, definition))


POINT = (DATASET, METHOD, KEEP)
CLASSES = (
    whole("n", "n", "n"),
    whole("graded (n)", "ungraded", "graded"),
    share("changed", "changed", "changed", bar=True),
    *_class("lost", "neg_flip", "neg-flip"),
    *_class("gained", "pos_flip", "pos-flip"),
    *_class("wrong to other", "wrong_to_other", "exchanged"),
    *_class("right to other", "right_to_other", "exchanged"),
    decimal("hidden ratio", "hidden_ratio", "hidden-ratio", 2),
    share("unparsed", "unparsed", "unparsed"),
)


def _moved(measure: Measure, label: str) -> tuple[Column, Column]:
    """A divergence in its own unit, and its excess over the floor."""
    name = measure.name
    return (divergence(label, measure.key, name), divergence(f"{label}, excess", f"{measure.key}_excess", "excess-of"))


def _distance(place: int) -> tuple[Column, ...]:
    """One divergence over the options and over all tokens; `place` is its place in `DISTANCES`."""
    label = ("KL", "JS", "TV")[place]
    return tuple(
        column for channel, measures in DISTANCES.items() for column in _moved(measures[place], f"{label}, {channel}")
    )


N_DISTANCES = (
    whole("n (options)", f"n_{DISTANCES['options'][0].key}", "n"),
    whole("n (tokens)", f"n_{DISTANCES['tokens'][0].key}", "n"),
)
DIVERGENCES = (
    excess("changed, excess", CHANGED.key),
    whole("n", f"n_{CHANGED.key}", "n"),
    *_distance(0),
    *N_DISTANCES,
)
OTHERS = (*_distance(1), *_distance(2), *N_DISTANCES)
HABITS = (
    decimal("kappa", KAPPA.key, "kappa", 3),
    decimal("kappa, excess", f"{KAPPA.key}_excess", "excess-of", 3),
    share("answer drift", DRIFT.key, "answer-drift"),
    excess("answer drift, excess", DRIFT.key),
    whole("n (labelled)", f"n_{KAPPA.key}", "n"),
    share("drift of places", PLACES.key, "position-drift"),
    excess("drift of places, excess", PLACES.key),
    share("first option", f"{FIRST.key}_value", "first-option"),
    share("first option in full", f"{FIRST.key}_full", "first-option"),
    whole("n (choices)", f"n_{PLACES.key}", "n"),
    share("yes", f"{YES.key}_value", "yes-rate"),
    share("yes in full", f"{YES.key}_full", "yes-rate"),
    whole("n (yes or no)", f"n_{YES.key}", "n"),
    decimal("kappa of right", KAPPA_CORRECT.key, "kappa-correct", 3),
    decimal("kappa of right, excess", f"{KAPPA_CORRECT.key}_excess", "excess-of", 3),
    share("lost of right", LOST.key, "lost-of-right"),
    excess("lost of right, excess", LOST.key),
    whole("n (right in full)", f"n_{LOST.key}", "n"),
)
PARSING = (
    share("unparsed", f"{UNPARSED.key}_value", "unparsed"),
    share("unparsed in full", f"{UNPARSED.key}_full", "unparsed"),
    excess("more than the floor", UNPARSED.key),
    whole("n", f"n_{UNPARSED.key}", "n"),
)


def pages(audit: Audit) -> list[Page]:
    """The one page of flips."""
    rows = sorted(audit.select(classes()), key=lambda row: place(audit, row))
    rows = [{**row, "ungraded": row["n_graded"] if row["n_graded"] != row["n"] else None} for row in rows]
    measured = by_point(audit, audit.select(QUERY), MEASURES)
    blocks: list[Block] = [finding(audit, rows), Prose(READING)]
    if (figure := drawn(audit, rows)) is not None:
        blocks.append(figure)
    caption = "Flip classes: what became of the answers that changed"
    blocks += [
        table("flips-classes", caption, telling(audit, [*POINT, *filled(CLASSES, rows)]), rows, how=how(rows)),
        _table(audit, "flips-divergences", "Changed answers beyond the floor, and KL", DIVERGENCES, measured),
        _folded(audit, "flips-others", "JS and TV, and their excess over the floor", OTHERS, measured),
        _folded(audit, "flips-habits", "Agreement beyond chance, and what the model tends to answer", HABITS, measured),
        *_parsing(audit, measured),
    ]
    return [Page("flips", "Flips and divergences", blocks, terms=("neg-flip", "pos-flip", "exchanged", "hidden-ratio"))]


def _table(audit: Audit, id: str, caption: str, columns: Sequence[Column], rows: list[Row], most: int = MOST) -> Table:
    n = sum(row[f"n_{CHANGED.key}"] or 0 for row in rows)
    source = How(QUERY, MADE_BY, f"n = {count(n, 'answer')} in {count(len(rows), 'row')}, seeds added up")
    return table(id, caption, telling(audit, [*POINT, *filled(columns, rows)]), rows, most, source)


def _folded(audit: Audit, id: str, caption: str, columns: Sequence[Column], rows: list[Row]) -> Fold:
    return Fold(caption, [_table(audit, id, caption, columns, rows, MOST_FOLDED)])


def _parsing(audit: Audit, rows: list[Row]) -> list[Block]:
    """How many answers no rule could parse; one sentence where there is none."""
    key = UNPARSED.key
    known = [row for row in rows if row[f"{key}_value"] is not None]
    worst = max(known, key=lambda row: float(row[f"{key}_value"]), default=None)
    if worst is None or not any(row[f"{key}_{end}"] for row in known for end in ("value", "full")):
        return [Prose(Markup("<p>Every answer of every cell could be parsed.</p>"))] if known else []
    who = f"{worst['method']}, {keep_name(worst['keep'])}, on {worst['dataset']}"
    summary = f"Answers that could not be parsed: at most {percent(worst[f'{key}_value'])} ({who})"
    caption = "Answers that could not be parsed"
    return [Fold(summary, [_table(audit, "flips-unparsed", caption, PARSING, rows, MOST_FOLDED)])]


def finding(audit: Audit, rows: list[Row]) -> Finding:
    """What the harshest keep changes, what accuracy sees of it, and what a second full run changes."""
    overall = means(audit, rows)
    keeps = shared_keeps(audit, overall)
    if not keeps:
        return Finding(
            "No keep was run with one method on every model and dataset, so flips have no mean.",
            "The tables below give them for every combination that was run.",
        )
    here = [overall[m, keeps[-1]] for m in audit.methods if (m, keeps[-1]) in overall]
    mean = mean_row(here, ("keep",))
    where = f"At keep {keep_label(keeps[-1])}"
    if mean["changed"] is None:
        return Finding(f"{where}, the share of changed answers is undefined.", "Some cell has no answer to compare.")
    over = f"mean of {count(len(here), 'method')} on {count(len(audit.pairs), 'pair')} of model and dataset"
    changed = f"{percent(mean['changed'])} {interval(mean.get('changed_low'), mean.get('changed_high'))}"
    size = f"{changed} of the answers change ({over}, n = {count(mean['n'])})"
    if mean["neg_flip"] is None:
        return Finding(
            f"{where}, {percent(mean['changed'])} of the answers change.",
            f"{size}. Not all are graded, so how many are lost has no mean. {floor_phrase(audit)}",
        )
    headline = f"{where}, {percent(mean['changed'])} of the answers change; accuracy moves by "
    headline += f"{points(mean['accuracy_change'])}."
    detail = (
        f"{size}: {percent(mean['neg_flip'])} are lost, {percent(mean['pos_flip'])} gained and "
        f"{percent(mean['exchanged'])} exchanged for another that is as right or as wrong. Accuracy sees only the "
        f"gained minus the lost. {_most_hidden(here)}{floor_phrase(audit)}"
    )
    return Finding(headline, detail)


def _most_hidden(here: list[Row]) -> str:
    """The method whose accuracy shows least of its flips."""
    known = [row for row in here if row["n_neg_flip"] is not None and row["n_pos_flip"] != row["n_neg_flip"]]
    if not known:
        return ""
    row = max(known, key=_hidden)
    return (
        f"It shows least of {row['method']}: {number(_hidden(row), 1)} flips for each one by which it moves "
        f"({count(row['n_neg_flip'])} lost, {count(row['n_pos_flip'])} gained). "
    )


def _hidden(row: Row) -> float:
    lost, gained = row["n_neg_flip"], row["n_pos_flip"]
    return float((lost + gained) / abs(gained - lost))
