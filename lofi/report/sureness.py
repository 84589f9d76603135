"""Where answers change, by how sure the full model was: its margin in fifths, and what that margin foretells."""

from collections.abc import Sequence

from lofi.cell import FULL
from lofi.report.audit import Audit, groups
from lofi.report.drawing import Figure, canvas, finish, heading, legend, styles
from lofi.report.how import How
from lofi.report.measured import MADE_BY, Measure, by_point, divergence, filled, place, query
from lofi.report.page import Block, Fold
from lofi.report.tables import KEEP, METHOD, decimal, share, table, telling, text, whole
from lofi.report.words import count, keep_name, keep_phrase, percent
from lofi.tables import Row

FIFTHS = range(1, 6)
NAMES = {"options": "margin over the options", "tokens": "margin over all tokens"}  # channel -> what its margin is
WHOSE = {"options": "questions with options", "tokens": "questions without options"}


def fifths_figure(audit: Audit, keep: str) -> Figure | None:
    """Changed answers by fifth of the full model's margin at one keep; None where there is nothing to draw."""
    query = fifths_query(keep)
    rows = [row for row in audit.select(query) if row["method"] in audit.methods]
    pairs = {group[0]["channel"]: max(row["pairs"] for row in group) for group in groups(rows, ("channel",))}
    drawn = [row for row in rows if row["pairs"] == pairs[row["channel"]]]
    if not drawn:
        return None
    figure, [panels] = canvas(1, len(pairs), 2.8 + 0.04 * len(audit.methods), sharey=True)
    look = styles(audit.methods, audit.random)
    for axes, channel in zip(panels, pairs, strict=True):
        for method in audit.methods:
            mine = [row for row in drawn if (row["channel"], row["method"]) == (channel, method)]
            style, rates = look[method], [100 * row["divergence_rate"] for row in mine]
            axes.plot([row["fifth"] for row in mine], rates, color=style.colour, marker=style.marker,
                      linestyle=style.dash, linewidth=1.5, markersize=5, label=audit.label(method))  # fmt: skip
        heading(axes, f"{NAMES[channel]}, {count(pairs[channel], 'pair')}")
        axes.set_xticks(list(FIFTHS), ["least sure", "2", "3", "4", "surest"])
        axes.set_xlabel("fifth of the questions, by the full model's margin")
    panels[0].set_ylabel("answers changed (%)")
    panels[0].set_ylim(bottom=0)
    legend(figure, panels[0])
    n = sum(row["n"] for row in drawn)
    how = How(
        query, ("stats/margins.sql", "report/sureness.py:fifths_query"), f"n = {count(n, 'answer')}, seeds added up"
    )
    return finish(figure, "fig-margins", _title(keep, drawn), _caption(keep, n), how, drawn)


def fifths_query(keep: str) -> str:
    """Changed answers in each fifth at one keep, all models, datasets and seeds together."""
    return (
        "SELECT channel, method, fifth, count(DISTINCT (model, dataset)) AS pairs, sum(n)::BIGINT AS n,\n"
        "    sum(n_changed)::BIGINT AS n_changed, sum(n_changed) / sum(n) AS divergence_rate\n"
        f"FROM margins\nWHERE keep = '{keep}'\nGROUP BY ALL\nORDER BY ALL"
    )


def _title(keep: str, drawn: Sequence[Row]) -> str:
    changed = sum(row["n_changed"] for row in drawn)
    if not changed:
        return f"At {keep_name(keep)}, no answer changes, however sure the full model was."
    least = sum(row["n_changed"] for row in drawn if row["fifth"] == 1)
    return (
        f"At {keep_name(keep)}, {percent(least / changed)} of {count(changed, 'changed answer')} are in the fifth of "
        "the questions of which the full model was least sure."
    )


def _caption(keep: str, n: int) -> str:
    return (
        f"Keeping {keep_phrase(keep)}: the share of changed answers in each fifth of the questions, sorted by the full "
        "model's margin in each model and dataset, then all pairs and seeds together "
        f"(n = {count(n, 'answer')}, all methods). If the margin said nothing, the lines would be flat and each fifth "
        "would hold 20 % of the changed answers. The margin over options and that over all tokens are no one scale. "
        "These shares have no intervals; those of all changed answers together have, on the page of the noise floor."
    )


def margin_tables(audit: Audit, channel: str) -> list[Block]:
    """What the margin foretells and how it moves, of one channel; then the fifths of every point."""
    auroc, margin = Measure(channel, "margin_auroc"), Measure(channel, "answer_margin")
    asked = query((auroc, margin), f"method <> '{FULL}'")
    rows = [row for row in by_point(audit, audit.select(asked), (auroc, margin)) if row[f"n_{auroc.key}"]]
    if not rows:
        return []
    n = sum(row[f"n_{auroc.key}"] for row in rows)
    how = How(
        asked, (*MADE_BY, "stats/margins.sql", "stats/logit_measures.sql"), f"n = {count(n, 'answer')}, seeds added up"
    )
    columns = (
        decimal("AUROC", auroc.key, "margin-auroc", digits=2),
        whole("n", f"n_{auroc.key}", "n"),
        decimal("margin in full", f"{margin.key}_full", "margin", digits=2),
        divergence("margin change", margin.key, "margin-change"),
        divergence("margin change, excess", f"{margin.key}_excess", "excess-of"),
        whole("n (margin)", f"n_{margin.key}", "n"),
    )
    caption = f"Does the {NAMES[channel]} foretell which answers change? ({WHOSE[channel]})"
    names = [text("dataset", "dataset"), METHOD, KEEP]
    shown = telling(audit, [*names, *filled(columns, rows)])
    return [table(f"margins-{channel}", caption, shown, rows, how=how), _fifths_table(audit, channel)]


def _fifths_table(audit: Audit, channel: str) -> Fold:
    shares = ",".join(
        f"\n    sum(n_changed) FILTER (fifth = {i}) / sum(n) FILTER (fifth = {i}) AS fifth_{i},"
        f" sum(n) FILTER (fifth = {i})::BIGINT AS n_{i}"
        for i in FIFTHS
    )
    asked = (
        f"SELECT model, dataset, method, weights, keep, {shares}\nFROM margins\n"
        f"WHERE channel = '{channel}' AND method <> '{FULL}'\nGROUP BY ALL\nORDER BY ALL"
    )
    rows = sorted(audit.select(asked), key=lambda row: place(audit, row))
    ends = {1: " (least sure)", 5: " (surest)"}
    columns = [
        column
        for i in FIFTHS
        for column in (
            share(f"changed, fifth {i}{ends.get(i, '')}", f"fifth_{i}", "fifths"),
            whole(f"n, fifth {i}", f"n_{i}", "n"),
        )
    ]
    names = [text("dataset", "dataset"), METHOD, KEEP]
    n = sum(row[f"n_{i}"] or 0 for row in rows for i in FIFTHS)
    caption = f"Answers changed by fifths of the {NAMES[channel]}"
    how = How(asked, ("stats/margins.sql",), f"n = {count(n, 'answer')}, seeds added up")
    return Fold(caption, [table(f"fifths-{channel}", caption, telling(audit, [*names, *columns]), rows, how=how)])
