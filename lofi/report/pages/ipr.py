"""Does a shift of the spectrum go with lost answers? Over cells, in every scope; what compares methods leads."""

from collections.abc import Sequence

from markupsafe import Markup

from lofi.report.audit import Audit
from lofi.report.drawing import Figure, canvas, finish, heading
from lofi.report.heat import Scale, Written, heat
from lofi.report.how import How
from lofi.report.page import Block, Finding, Fold, Page, Prose
from lofi.report.scatter import LEADING, scatter
from lofi.report.sentences import spectra
from lofi.report.spectral import FORM, NOTE, RESAMPLED, SITE, STATISTIC, TOKENS, form, noted, probability
from lofi.report.tables import Table, decimal, estimate, table, text, whole
from lofi.report.words import SITES, correlation, count, number, p_value
from lofi.store import STATISTICS
from lofi.tables import Row

LEVEL = 0.05
SCOPES = {
    LEADING: "within (model, dataset, keep)",
    "within_model_dataset": "within (model, dataset)",
    "pooled": "pooled",
    "partial": "partial",
    "random_only": "random pruning only",
    "excess_over_random": "excess over random",
}
MADE_BY = ("stats/correlations.sql", "stats/points.sql", "stats/points.py:tests", "stats/correlate.py:correlate")
# The declared question and, beside it, the statistic of the paper: not centred, and moved by the count alone.
BY_SCOPE = """\
SELECT
    scope, CASE WHEN correlations.primary THEN 'IPR_U, centred' ELSE 'IPR, raw' END AS shift_of, correlations.primary,
    pearson, low AS pearson_low, high AS pearson_high, spearman, kendall, p, p_methods,
    n_cells, n_groups, resampled, note
FROM correlations
WHERE
    correlations.primary
    OR (delta = 'dlog' AND statistic = 'ipr' AND NOT centred AND site = 'projector' AND tokens = 'visual')
ORDER BY correlations.primary DESC, scope"""
EXPLORED = """\
SELECT
    delta, statistic, site, tokens, centred, correlations.primary, pearson, low AS pearson_low, high AS pearson_high,
    spearman, kendall, p, p_methods, p_adjusted, n_cells, n_groups, resampled, note
FROM correlations
WHERE scope = 'within_model_dataset_keep' AND {which}
ORDER BY correlations.primary DESC, p NULLS LAST, abs(pearson) DESC, delta, statistic, site, tokens, centred"""
HOW_MANY = f"""\
SELECT
    scope,
    count(p) AS tests,
    count(*) FILTER (WHERE p_adjusted < {LEVEL} AND pearson < 0) AS falling,
    count(*) FILTER (WHERE p_adjusted < {LEVEL} AND pearson > 0) AS rising,
    max(n_cells) AS n_cells
FROM correlations
WHERE NOT correlations.primary
GROUP BY scope
ORDER BY scope"""
WHY = Prose(Markup(
    '<p class="why"><strong>Why the pooled correlation misleads.</strong> Dropping more tokens both moves the spectrum '
    "and changes more answers, so across keeps the two correlate even if methods play no part. In a simulation where "
    "no method had any effect, the pooled correlation was −0.83, and −0.90 within (model, dataset), while within "
    "(model, dataset, keep) it was −0.03.</p>"
))  # fmt: skip
CLAIM = Prose(Markup(
    '<p>The claim under test: a shift of the inverse participation ratio (<a href="#def-ipr">IPR</a>) of the '
    "singular-value spectrum predicts lost answers. One shift was declared before looking: that of ln "
    '<a href="#def-ipr-u">IPR_U</a> of the visual tokens after the projector, centred. The test that counts compares '
    "methods <em>at the same model, dataset and keep</em>.</p>"
))  # fmt: skip
CHANCE = Prose(Markup(
    "<p>The p behind the stars shuffles cells inside their group, so it takes what is peculiar to one method as seen "
    'anew on every model, dataset and keep. The column <a href="#def-p-methods">p, methods</a> exchanges whole methods '
    "instead: with few methods it is the one to trust.</p>"
))  # fmt: skip


def pages(audit: Audit) -> list[Page]:
    """One page; where nothing can be tested it says why."""
    rows = audit.select(BY_SCOPE)
    found = {row["scope"]: row | _bounds(row) for row in rows if row["primary"]}
    blocks: list[Block] = [finding(audit, found), CLAIM]
    if drawn := scatter(audit, found):
        blocks.append(drawn)
    blocks.append(WHY)
    if rows:
        blocks.append(scope_table(rows))
    grid = audit.select(EXPLORED.format(which="delta = 'dlog'"))
    if any(row["pearson"] is not None for row in grid):
        blocks += [heat_map(grid), strongest(grid)]
    if counts := audit.select(HOW_MANY):
        blocks.append(Fold("All other shifts: statistics, sites and token sets", explored(audit, counts)))
    return [Page("ipr", "IPR and lost answers", blocks, "Spectra", terms=("ipr-u", "scopes", "correlation"))]


def finding(audit: Audit, found: dict[str, Row]) -> Finding:
    """The leading scope, and what is left of it beyond random pruning."""
    lead = spectra(audit)
    detail = lead.detail
    for scope, words in (
        ("excess_over_random", "Beyond random pruning of the same keep"),
        ("random_only", "Among random prunings alone"),
    ):
        row = found.get(scope)
        if row is not None and row["pearson"] is not None:
            detail += f" {words}: {correlation(row)}, {p_value(row['p'])} ({count(row['n_cells'], 'cell')})."
        elif row is not None:
            detail += f" {words} nothing can be tested: {row['note']}."
    return Finding(lead.headline, detail)


def _bounds(row: Row) -> Row:
    return {"low": row["pearson_low"], "high": row["pearson_high"]}


R = (
    estimate("Pearson r", "pearson", "correlation"),
    decimal("Spearman ρ", "spearman", "correlation", 2),
    decimal("Kendall τ", "kendall", "correlation", 2),
    probability("p", "p", "correlation"),
    probability("p, methods", "p_methods", "p-methods"),
)
SIZES = (
    whole("cells", "n_cells"),
    whole("groups", "n_groups"),
    RESAMPLED,
    NOTE,
)


def scope_table(rows: Sequence[Row]) -> Table:
    """Every scope, the leading one first: the declared shift, and the paper's statistic."""
    order = list(SCOPES)
    rows = sorted(rows, key=lambda row: (not row["primary"], order.index(row["scope"])))
    named = [{**row, "scope": SCOPES[row["scope"]]} for row in rows]
    columns = (text("scope", "scope", "scopes"), text("shift of ln", "shift_of", "ipr-u"), *R, *SIZES)
    n = f"n = {count(max(row['n_cells'] for row in rows))} points; each row says of how many"
    caption = (
        "The shift after the projector, visual tokens, against agreement, by scope; marked: declared before looking"
    )
    return table("scopes", caption, noted(columns, rows), named, how=How(BY_SCOPE, MADE_BY, n))


def heat_map(rows: Sequence[Row]) -> Figure:
    """Pearson of every shift of a logarithm in the leading scope: statistic by site, a panel per token set and form."""
    known = [row for row in rows if row["pearson"] is not None]
    kinds = [k for k in (("visual", True), ("visual", False), ("text", True), ("text", False)) if _of(known, *k)]
    statistics = [name for name in STATISTICS if any(row["statistic"] == name for row in rows)]
    across = min(2, len(kinds))
    down = -(-len(kinds) // across)
    figure, grid = canvas(down, across, 0.9 + 0.21 * len(statistics))
    panels = [axes for line in grid for axes in line]
    for axes, (tokens, centred) in zip(panels, kinds, strict=False):
        here = _of(rows, tokens, centred)
        sites = [site for site in SITES if any(r["site"] == site and r["pearson"] is not None for r in here)]
        at = {(row["statistic"], row["site"]): row for row in here}
        found = [[at.get((statistic, site), {}) for site in sites] for statistic in statistics]
        heat(
            axes,
            [[row.get("pearson") for row in line] for line in found],
            [[_written(row) for row in line] for line in found],
            (statistics, [SITES[site] for site in sites]),
            Scale(-1.0, 1.0, "vlag"),
        )
        heading(axes, f"{tokens} tokens, {'centred' if centred else 'raw'}")
    for axes in panels[len(kinds) :]:
        axes.set_axis_off()
    caption = (
        "Pearson r of the shift of each statistic's logarithm with agreement, both less the mean of their (model, "
        "dataset, keep); 13 statistics down, sites across. Bold with a star: p adjusted for all exploratory shifts of "
        "the scope (Benjamini-Hochberg) is below 0.05; in brackets: the shift that was declared before looking. A site "
        "is left out where nothing varies."
    ).replace("13", str(len(statistics)))
    n = f"n = {count(max(row['n_cells'] for row in rows))} points in each correlation at most"
    how = How(EXPLORED.format(which="delta = 'dlog'"), MADE_BY, n)
    columns = ("statistic", "site", "tokens", "centred", "primary", "pearson", "p", "p_adjusted", "n_cells")
    data = [{name: row[name] for name in columns} for row in rows]
    title = _map_title([row for row in rows if row["p"] is not None and not row["primary"]])
    return finish(figure, "fig-ipr-map", title, caption, how, data)


def _map_title(tests: Sequence[Row]) -> str:
    hits = [row for row in tests if _holds(row)]
    also = sum(row["p_methods"] is not None and row["p_methods"] < LEVEL for row in hits)
    words = f"Of {count(len(tests), 'other shift')} at equal keep, {count(len(hits))} "
    words += f"{'goes' if len(hits) == 1 else 'go'} with agreement after correcting for all that were tried"
    return words + (f", {count(also)} of them also where whole methods are exchanged." if hits else ".")


def strongest(rows: Sequence[Row]) -> Prose:
    """The largest correlation of the map, which is named after looking."""
    known = [row for row in rows if row["pearson"] is not None and not row["primary"]]
    if not known:
        return CHANCE
    best = max(known, key=lambda row: abs(row["pearson"]))
    where = f"{best['tokens']} tokens, {form(best)}, {SITES[best['site']]}"
    words = (
        f"The strongest is the shift of ln {best['statistic']} ({where}): {correlation(best | _bounds(best))}, "
        f"{p_value(best['p_methods'])} where whole methods are exchanged. It is named after looking at all of them, "
        "which flatters it; on other models and data it would have to be declared before."
    )
    return Prose(CHANCE.html + Markup("<p>{}</p>").format(words))


def _of(rows: Sequence[Row], tokens: str, centred: bool) -> list[Row]:
    return [row for row in rows if (row["tokens"], row["centred"]) == (tokens, centred)]


def _holds(row: Row) -> bool:
    return row["p_adjusted"] is not None and row["p_adjusted"] < LEVEL


def _written(row: Row) -> Written:
    if row.get("pearson") is None:
        return Written("")
    words = number(row["pearson"]) + ("*" if _holds(row) else "")
    return Written(f"[{words}]" if row["primary"] else words, bold=_holds(row))


def explored(audit: Audit, counts: Sequence[Row]) -> list[Block]:
    """How many other shifts stand in each scope, and all of the leading scope."""
    order = list(SCOPES)
    rows = [{**row, "scope": SCOPES[row["scope"]]} for row in sorted(counts, key=lambda row: order.index(row["scope"]))]
    n = f"n = {count(max(row['n_cells'] for row in counts))} points in each correlation at most"
    columns = (
        text("scope", "scope", "scopes"),
        whole("shifts tried", "tests", "p-adjusted"),
        whole("r below 0, adjusted p < 0.05", "falling", "p-adjusted"),
        whole("r above 0, adjusted p < 0.05", "rising", "p-adjusted"),
        whole("cells at most", "n_cells"),
    )
    summary = table("explored-scopes", "Exploratory shifts by scope", columns, rows, how=How(HOW_MANY, MADE_BY, n))
    everything = EXPLORED.format(which="true")
    grid = (
        text("delta", "delta", "delta"),
        *(STATISTIC, SITE, TOKENS, FORM),
        *R,
        probability("p adjusted", "p_adjusted", "p-adjusted"),
        *SIZES,
    )
    caption = "Every shift within (model, dataset, keep); marked: declared before looking"
    found = audit.select(everything)
    return [summary, table("correlations", caption, noted(grid, found), found, how=How(everything, MADE_BY, n))]
