"""Answers kept against tokens spent: which combinations of method and keep no other beats on both."""

import math
from collections import Counter

from lofi.report.audit import Audit
from lofi.report.curves import by_keep, frontier
from lofi.report.measured import filled, place
from lofi.report.page import Block, Finding, Fold, Page
from lofi.report.spending import OF_MODELS, by_model, how, on_frontier
from lofi.report.tables import KEEP, METHOD, RATIO, Column, decimal, share, table, telling, whole
from lofi.report.words import count, keep_name, listing, percent, share_with_interval
from lofi.tables import Row

NAMED = 4  # models or methods named in one sentence
MID = 0.25
COLUMNS = (
    METHOD,
    KEEP,
    share("tokens (% of full)", "share", "frontier-tokens"),
    share("answers kept (agreement)", "agreement", "agreement", bar=True),
    RATIO,
    share("accuracy", "accuracy", "accuracy"),
    whole("n", "n", "n"),
)
RIVALS = (
    whole("others with as few", "n_rivals", "frontier"),
    whole("of these, interval overlaps", "n_level", "frontier"),
)
SPENT = (
    decimal("layer-mean tokens", "tokens", "layer-mean"),
    share("prefill FLOPs (% of full)", "flops", "prefill-flops"),
    decimal("prefill (ms)", "prefill_ms", "stage-times", 2),
)
BEATEN = Column("beaten by", lambda row: _beaten(row), lambda row: _beaten(row), "frontier", numeric=False)


def pages(audit: Audit) -> list[Page]:
    """The one page of the frontier."""
    rows = sorted(audit.select(by_model()), key=lambda row: _place(audit, row))
    blocks: list[Block] = [finding(audit, rows)]
    if any(row["treated"] for row in rows):
        blocks.append(frontier(audit, rows))
    blocks += [*_tables(audit, rows), by_keep(audit)]
    return [Page("frontier", "Frontier", blocks, terms=("frontier", "frontier-tokens", "agreement"))]


def _place(audit: Audit, row: Row) -> tuple[int, int, int]:
    """Where a mean over datasets stands: as `measured.place` has it, without a dataset."""
    return place(audit, {**row, "dataset": audit.datasets[0]})[1:]


def _beaten(row: Row) -> str:
    if not row["treated"]:
        return "not compared"
    return "none" if row["on_frontier"] else f"{row['beaten_by']}, {keep_name(row['beaten_at'])}"


def finding(audit: Audit, rows: list[Row]) -> Finding:
    """How many combinations none beats, whose they are, and what is kept with about a quarter of the tokens."""
    placed, best = sum(row["treated"] for row in rows), on_frontier(rows)
    if not best:
        return Finding(
            "There is no frontier to draw.",
            "No method that drops tokens has an agreement on every dataset of a model, so nothing can be averaged.",
        )
    axes = "model, method and keep" if len(audit.models) > 1 else "method and keep"
    headline = (
        f"{len(best)} of {count(placed, 'combination')} of {axes} {'lies' if len(best) == 1 else 'lie'} on the "
        "frontier: no other keeps more answers with as few visual tokens."
    )
    named = [_at_mid(model, best) for model in audit.models if any(row["model"] == model for row in best)]
    more = f" The table has {len(named) - NAMED} more models." if len(named) > NAMED else ""
    return Finding(headline, f"{_whose(audit, best)} {' '.join(named[:NAMED])}{more}")


def _whose(audit: Audit, best: list[Row]) -> str:
    """The methods of the frontier, those that are there most often first, and whether random is one."""
    found = Counter(row["method"] for row in best).most_common()
    names = [f"{method} {n}" for method, n in found[:NAMED]]
    if len(found) > NAMED:
        names.append(f"other methods {sum(n for _, n in found[NAMED:])}")
    absent = audit.random is not None and audit.random not in dict(found)
    return f"Of these, {listing(names)}{f'; {audit.random} none' if absent else ''}."


def _at_mid(model: str, best: list[Row]) -> str:
    """What one model's frontier holds nearest to a quarter of the tokens."""
    mine = [row for row in best if row["model"] == model]
    row = min(mine, key=lambda row: round(abs(math.log(row["share"] / MID)), 9))
    text = (
        f"On {model}, with {percent(row['share'])} of the tokens, {row['method']} keeps "
        f"{share_with_interval(row, 'agreement')} of the answers (n = {count(row['n'])})"
    )
    if not row["n_rivals"]:
        return f"{text}; no other combination uses as few."
    text += f"; none of {count(row['n_rivals'], 'other combination')} with as few keeps more"
    if row["agreement_low"] is None:
        return f"{text}."
    return f"{text}, and the intervals of {count(row['n_level']) if row['n_level'] else 'none'} overlap with that."


def _tables(audit: Audit, rows: list[Row]) -> list[Block]:
    """The frontier, and all combinations with what beats them in a fold."""
    best = [row for model in audit.models for row in on_frontier(rows) if row["model"] == model]
    made: list[Block] = []
    if best:
        caption = "The frontier: combinations that no other beats on both tokens and answers, fewest tokens first"
        columns = telling(audit, filled((*COLUMNS, *RIVALS, *SPENT), best))
        query = f"SELECT * FROM (\n{by_model()}\n)\nWHERE on_frontier\nORDER BY model, share"
        made.append(table("frontier-best", caption, columns, best, how=how(query, OF_MODELS, best)))
    if rows:
        caption = "Every method and keep that ran on all datasets of its model: means over them, and what beats each"
        columns = telling(audit, filled((*COLUMNS, *SPENT, BEATEN), rows))
        everything = table("frontier-all", caption, columns, rows, how=how(by_model(), OF_MODELS, rows))
        made.append(Fold(f"All {count(len(rows), 'combination')}, and what beats each", [everything]))
    return made
