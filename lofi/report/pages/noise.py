"""The noise floor: what a second run of the full model changes, and what every method changes beyond it."""

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from lofi.cell import FLOOR, FULL
from lofi.report.audit import Audit, groups
from lofi.report.floor import (
    ABOVE,
    CHANGED,
    KL,
    MEASURES,
    NO_FLOOR,
    OPEN,
    OPTION_MARGIN,
    QUERY,
    TEXTS,
    TOKEN_MARGIN,
    WITHIN,
    floor_figure,
    how_of,
    verdict,
)
from lofi.report.measured import MADE_BY, by_point, divergence, excess, filled, place, query
from lofi.report.page import Block, Finding, Fold, Page, Prose
from lofi.report.tables import KEEP, METHOD, MODEL, Column, share, table, telling, text, whole
from lofi.report.words import SPACE, count, listing, percent, small
from lofi.tables import Row

SHARES = (CHANGED.key, TEXTS.key)
FLOORS = query(MEASURES, f"method = '{FLOOR}'")
ANSWERS = (
    share("answers changed", CHANGED.key, "changed", bar=True),
    whole("n", f"n_{CHANGED.key}", "n"),
    share("texts identical", TEXTS.key, "identical"),
    whole("n (texts)", f"n_{TEXTS.key}", "n"),
)
LOGITS = (
    divergence("KL", KL.key, "kl"),
    divergence("JS", "tokens_js", "js"),
    divergence("TV", "tokens_tv", "tv"),
    whole("n", f"n_{KL.key}", "n"),
    divergence("KL, options", "options_kl", "of-options"),
    divergence("JS, options", "options_js", "of-options"),
    divergence("TV, options", "options_tv", "of-options"),
    divergence("margin change, options", OPTION_MARGIN.key, "margin-change"),
    whole("n (options)", f"n_{OPTION_MARGIN.key}", "n"),
    divergence("margin change, tokens", TOKEN_MARGIN.key, "margin-change"),
    whole("n (margin, tokens)", f"n_{TOKEN_MARGIN.key}", "n"),
)
VERDICT = text("against the floor", "verdict", "against-the-floor")
NAMED = 4  # pairs named in one sentence


def pages(audit: Audit) -> list[Page]:
    """One page; where nothing is known of the noise it says so."""
    rows = [{**row, "verdict": verdict(row)} for row in by_point(audit, audit.select(QUERY), MEASURES)]
    floors = [row for row in rows if row["method"] == FLOOR]
    reduced = [row for row in rows if row["method"] != FLOOR]
    found = {(row["model"], row["dataset"]) for row in floors}
    lacking = [pair for pair in audit.pairs if pair not in found]
    if not floors:
        return [Page("noise", "Noise floor", [_without(audit)], badge=1)]
    blocks: list[Block] = [_finding(floors, reduced)]
    if lacking:
        blocks.append(_lacking(lacking))
    if (figure := floor_figure(audit, [row for row in rows if (row["model"], row["dataset"]) in found])) is not None:
        blocks.append(figure)
    blocks += [_what_it_is(), *_floor_tables(audit, floors), *_method_tables(audit, reduced)]
    return [
        Page(
            "noise", "Noise floor", blocks, badge=int(bool(lacking)), terms=("floor", "excess-of", "against-the-floor")
        )
    ]


def _without(audit: Audit) -> Finding:
    return Finding(
        "This sweep has no noise floor, so how much of any divergence is numerical noise is unknown.",
        "The floor is the full model, run once more under another batch layout. `lofi reference` stores it as the "
        f"method {FLOOR} beside {FULL}, for {count(len(audit.pairs), 'pair')} of model and dataset here; after that, "
        "`lofi aggregate` and `lofi report` make this page. Until then every excess is a dash.",
    )


def _lacking(pairs: Sequence[tuple[str, str]]) -> Prose:
    names = [f"{dataset} with {model}" for model, dataset in pairs[:NAMED]]
    if len(pairs) > NAMED:
        names.append(f"{len(pairs) - NAMED} more")
    return Prose(
        Markup(
            "<p>There is no floor for {}: there nobody knows how much of a divergence is noise, and every excess is a "
            "dash. <code>lofi reference</code> runs it.</p>"
        ).format(listing(names))
    )


def _finding(floors: list[Row], reduced: list[Row]) -> Finding:
    key = CHANGED.key
    measured = [row for row in floors if row[key] is not None]
    if not measured:
        return Finding(
            "The noise floor is undefined.", "No sample ran without error both in full and in its second run."
        )
    n = sum(row[f"n_{key}"] for row in measured)
    changed = round(sum(row[key] * row[f"n_{key}"] for row in measured))
    some = f"{count(changed)} of {count(n, 'answer')} ({percent(changed / n)})"
    what = some if changed else f"none of {count(n, 'answer')}"
    worst = max(measured, key=lambda row: float(row[key]))
    bounds = [row[f"{key}_high"] for row in measured if row[f"{key}_high"] is not None]
    detail = f"Over {count(len(measured), 'pair')} of model and dataset the largest share is {percent(worst[key])}"
    detail += f"; no 95{SPACE}% interval reaches beyond {percent(max(bounds))}. " if bounds else ". "
    headline = f"Running the full model again under another batch layout changes {what}."
    return Finding(headline, detail + _largest_kl(floors) + _verdicts(reduced))


def _largest_kl(floors: list[Row]) -> str:
    values = [row[KL.key] for row in floors if row[KL.key] is not None]
    return f"The largest mean KL over the vocabulary is {small(max(values))} nats. " if values else ""


def _verdicts(reduced: list[Row]) -> str:
    tally = {name: sum(row["verdict"] == name for row in reduced) for name in (ABOVE, WITHIN, OPEN, NO_FLOOR)}
    judged = len(reduced) - tally[NO_FLOOR]
    if not judged:
        return "No other cell can be held against it."
    text = (
        f"Of {count(judged, 'combination')} of model, dataset, method and keep, {count(tally[ABOVE])} change more "
        f"answers than that (the interval of the excess lies above 0) and {count(tally[WITHIN])} were not shown to"
    )
    return text + (f"; {count(tally[OPEN])} have no interval." if tally[OPEN] else ".")


def _what_it_is() -> Prose:
    return Prose(
        Markup(
            "<p>The floor runs the same model, weights and prompts on the same machine in batches of another size. It "
            "shows what the order of additions does; another machine, library or number type may move more. A point "
            "<em>within the floor</em> was not shown to change more answers than that, which with few samples is no "
            "proof that it changes none.</p>"
        )
    )


def _floor_tables(audit: Audit, floors: list[Row]) -> list[Block]:
    """What the second run moves: answers and texts first, the distributions after them."""
    caption, how = "What a second run of the full model changes", how_of(FLOORS, floors)
    names = [text("dataset", "dataset")] if len(audit.models) == 1 else [MODEL, text("dataset", "dataset")]
    return [
        table("noise-floor", caption, [*names, *filled(ANSWERS, floors)], floors, how=how),
        table("noise-logits", f"{caption} in the logits", [*names, *filled(LOGITS, floors)], floors, how=how),
    ]


def _method_tables(audit: Audit, reduced: list[Row]) -> list[Block]:
    """Which points are within the floor, counted by method and keep, then every divergence of every point."""
    if not reduced:
        return []
    counted = [
        {"method": group[0]["method"], "keep": group[0]["keep"], "points": len(group)}
        | {name: sum(row["verdict"] == name for row in group) for name in (ABOVE, WITHIN, OPEN, NO_FLOOR)}
        for group in groups(sorted(reduced, key=lambda row: place(audit, row)[2:]), ("method", "keep"))
    ]
    tallies = [
        whole(name, name, "against-the-floor")
        for name in (ABOVE, WITHIN, OPEN, NO_FLOOR)
        if any(r[name] for r in counted)
    ]
    names = [text("dataset", "dataset"), METHOD, KEEP]
    first = telling(audit, [*names, *filled([*_beside(ANSWERS), VERDICT], reduced)])
    second = telling(audit, [*names, *filled(list(_beside(LOGITS)), reduced)])
    how = how_of(QUERY, reduced, (*MADE_BY, "report/floor.py:verdict"))
    caption = "Which methods change more answers than the floor, in how many pairs of model and dataset"
    return [
        table("noise-within", caption, [METHOD, KEEP, whole("pairs", "points"), *tallies], counted, how=how),
        table("noise-answers", "Changed answers, and their excess over the floor", first, reduced, how=how),
        Fold("Every divergence of the logits, and its excess over the floor", [
            table("noise-excess", "Divergence of the logits, and its excess over the floor", second, reduced, how=how)
        ]),
    ]  # fmt: skip


def _beside(columns: Sequence[Column]) -> Iterator[Column]:
    """Each column, and after those that noise moves the excess over the floor."""
    for column in columns:
        yield column
        if column.bounds in SHARES:
            yield excess(f"{column.label}, excess", column.bounds)
        elif column.bounds:
            yield divergence(f"{column.label}, excess", f"{column.bounds}_excess", "excess-of")
