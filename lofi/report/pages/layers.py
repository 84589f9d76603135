"""Spectra per layer: how far each method moves them, from the projector to the last layer of the LLM."""

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.axes import Axes

from lofi.cell import FLOOR, KEEP_ALL, OWN_COUNT
from lofi.report.audit import BASELINES, Audit, groups
from lofi.report.drawing import Figure, Style, canvas, finish, heading, legend, spread, styles
from lofi.report.how import How
from lofi.report.page import Block, Finding, Fold, Page, Prose
from lofi.report.spectral import FORM, STATISTIC, TOKENS
from lofi.report.tables import KEEP, METHOD, MODEL, Column, Table, decimal, table
from lofi.report.words import NONE, SITES, count, keep_label, keep_phrase, listing, number, small
from lofi.tables import Row

MAX_MODELS = 3
MAX_KEEPS = 4
MAX_VECTORS = 1500
MOST_OTHERS = 1000  # rows of the table of other statistics
MADE_BY = ("stats/spectra.sql", "report/pages/layers.py:query")
# Seeds are averaged first, then datasets. A number that one cell lacks is no mean of the others.
QUERY = """\
WITH points AS (
    SELECT
        model, dataset, method, keep, statistic, tokens, centred, site,
        count(*) AS cells, count(dlog) AS known, avg(dlog ORDER BY seed) AS shift, sum(n_dlog) AS n
    FROM spectra
    WHERE method <> 'full' AND {which}
    GROUP BY ALL
)
SELECT
    {axes}, site,
    CASE WHEN sum(known) = sum(cells) THEN avg(shift ORDER BY model, dataset) END AS shift,
    count(*) AS pairs, sum(n)::BIGINT AS n
FROM points
GROUP BY ALL
ORDER BY ALL"""
OTHERS = "statistic IN ('ipr', 'ipr_u', 'entropy_norm', 'stable_rank', 'top1_energy')"
PRIMARY = "statistic = 'ipr_u' AND centred AND tokens = '{}'"
PLACES = {
    "projector": "after the projector",
    "llm_0": "at the input of the LLM",
    "llm_1_4": "a quarter into the LLM",
    "llm_1_2": "halfway through the LLM",
    "llm_3_4": "three quarters into the LLM",
    "llm_last": "at the input of the LLM's last layer",
}


def pages(audit: Audit) -> list[Page]:
    """One page, also where nothing was stored."""
    queries = {tokens: query(PRIMARY.format(tokens), "model, method, keep") for tokens in ("visual", "text")}
    visual, question = (audit.select(sql) for sql in queries.values())
    blocks: list[Block] = [finding(audit, visual, question)]
    if visual:
        blocks += [
            *_drawn(audit, visual, "visual", queries["visual"]),
            site_table(audit, visual, "layers-visual", "Shift of ln IPR_U of the visual tokens", queries["visual"]),
            Prose(Markup(
                "<p>Each number is the mean of ln x<sub>reduced</sub> − ln x<sub>full</sub> over samples, then seeds, "
                "then datasets. A dash: some cell has no sample in which the statistic is above 0 in both runs, as "
                'where one token is left. Rows of <em>floor</em> are <a href="#def-floor">the noise floor</a>.</p>'
            )),
        ]  # fmt: skip
    if question:
        title = "Shift of ln IPR_U of the question's tokens"
        shown = [*_drawn(audit, question, "text", queries["text"])]
        shown.append(site_table(audit, question, "layers-text", title, queries["text"]))
        blocks.append(Fold("The question's tokens, which no method drops", shown))
    if others := other_statistics(audit):
        blocks.append(Fold("Other statistics, raw and centred", [others]))
    return [Page("layers", "Spectra per layer", blocks, "Spectra", terms=("ipr-u", "delta", "sites", "centred"))]


def query(which: str, axes: str) -> str:
    """Mean shifts of the logarithm by site: one row per site and combination of `axes`."""
    return QUERY.format(which=which, axes=axes)


def sites_of(rows: Sequence[Row]) -> list[str]:
    """The sites that the rows have, in the order in which tokens pass them."""
    found = {row["site"] for row in rows}
    return [site for site in SITES if site in found]


def _how(rows: Sequence[Row], sql: str) -> How:
    return How(sql, MADE_BY, _size(rows))


def _size(rows: Sequence[Row]) -> str:
    """The answers behind one statistic at the site that has most."""
    sizes = [
        sum(row["n"] for row in group)
        for group in groups(rows, [name for name in ("statistic", "tokens", "centred", "site") if name in rows[0]])
    ]
    return f"n = {count(max(sizes), 'answer')} of reduced runs at one site"


def finding(audit: Audit, visual: Sequence[Row], question: Sequence[Row]) -> Finding:
    """Where the spectrum moves most at the harshest keep, and how far."""
    keep = next((k for k in reversed(audit.keeps) if any(row["keep"] == k for row in visual)), None)
    here = [r for r in visual if r["keep"] == keep and r["method"] not in BASELINES and r["shift"] is not None]
    if not visual:
        return Finding("No spectra were stored, so nothing is known of layers.", "The table spectra has no row.")
    if keep is None or not here:
        return Finding("No keep below all tokens has spectra to compare.", "The tables below hold what there is.")
    means = _by_site(here)
    site = max(means, key=lambda name: means[name])
    if means[site] == 0:
        return Finding(f"At keep {keep_label(keep)} no spectrum of the visual tokens moves at any site.", _size(here))
    far = max(here, key=lambda row: abs(row["shift"]))
    methods = len({row["method"] for row in here})
    sizes = [f"{number(means[name])} {PLACES[name]}" for name in means]
    detail = (
        f"Mean absolute shift of ln IPR_U with {keep_phrase(keep)}, over {count(methods, 'method')} and "
        f"{count(len({row['model'] for row in here}), 'model')}: {listing(sizes)} ({_size(here)}). The farthest is "
        f"{far['method']} with {number(far['shift'])} {PLACES[far['site']]}."
    )
    texts = _by_site([r for r in question if r["keep"] == keep and r["method"] not in BASELINES])
    if texts:
        last = max(texts, key=lambda name: texts[name])
        detail += f" The question's tokens move by {number(texts[last])} at most ({PLACES[last]})."
    return Finding(f"The spectrum of the visual tokens moves most {PLACES[site]}.", detail + _noise(visual))


def _by_site(rows: Sequence[Row]) -> dict[str, float]:
    """Mean absolute shift at each site, where some row has one."""
    known = {site: [abs(r["shift"]) for r in rows if r["site"] == site and r["shift"] is not None] for site in SITES}
    return {site: sum(shifts) / len(shifts) for site, shifts in known.items() if shifts}


def _noise(visual: Sequence[Row]) -> str:
    floor = [abs(row["shift"]) for row in visual if row["method"] == FLOOR and row["shift"] is not None]
    if not floor:
        return ""
    far = f"moves it by {small(max(floor))} at most" if any(floor) else "does not move it"
    return f" A second run of the full model {far}."


def _drawn(audit: Audit, rows: Sequence[Row], tokens: str, sql: str) -> list[Block]:
    figure = by_layer(audit, rows, tokens, sql)
    return [] if figure is None else [figure]


def by_layer(audit: Audit, rows: Sequence[Row], tokens: str, sql: str) -> Figure | None:
    """The shift along the sites, a line per method, a panel per model and keep; None where there is no line."""
    rows = [row for row in rows if row["method"] in audit.methods and row["shift"] is not None]
    keeps = [keep for keep in audit.keeps if any(row["keep"] == keep for row in rows)]
    models = [model for model in audit.models if any(row["model"] == model for row in rows)][:MAX_MODELS]
    if not keeps or not models:
        return None
    shown = spread(keeps, MAX_KEEPS)
    drawn = [row for row in rows if row["keep"] in shown and row["model"] in models]
    sites, look = sites_of(drawn), styles(audit.methods, audit.random)
    figure, grid = canvas(len(models), len(shown), 2.5, sharex=True, sharey="row")
    for model, line_of_axes in zip(models, grid, strict=True):
        for keep, axes in zip(shown, line_of_axes, strict=True):
            here = [row for row in drawn if (row["model"], row["keep"]) == (model, keep)]
            _panel(axes, audit, here, sites, look, rasterized=len(drawn) > MAX_VECTORS)
            heading(axes, f"keep {keep_label(keep)}")
        line_of_axes[0].set_ylabel("shift of ln IPR_U" if len(audit.models) == 1 else f"{model}\nshift of ln IPR_U")
    for axes in grid[-1]:
        axes.set_xlabel("site (share of LLM layers)")
    fullest = max((axes for line_of_axes in grid for axes in line_of_axes), key=lambda axes: len(axes.lines))
    legend(figure, fullest)
    caption = _caption(tokens, len(audit.models) - len(models), len(keeps) - len(shown))
    return finish(figure, f"fig-layers-{tokens}", _title(drawn, shown[-1], tokens), caption, _how(rows, sql), drawn)


def _panel(
    axes: Axes, audit: Audit, rows: Sequence[Row], sites: Sequence[str], look: dict[str, Style], rasterized: bool
) -> None:
    axes.axhline(0, color="#8a8a8a", linewidth=1, zorder=0)
    for method in audit.methods:
        at = {row["site"]: row["shift"] for row in rows if row["method"] == method}
        if at:
            style = look[method]
            axes.plot(
                [sites.index(site) for site in sites if site in at], [at[site] for site in sites if site in at],
                color=style.colour, marker=style.marker, linestyle=style.dash, linewidth=1.4, markersize=4.5,
                markeredgecolor="white", markeredgewidth=0.4, label=audit.label(method), rasterized=rasterized,
            )  # fmt: skip
    axes.set_xticks(range(len(sites)), [SITES[site] for site in sites], rotation=30, ha="right")
    axes.set_xlim(-0.3, len(sites) - 0.7)


def _title(drawn: Sequence[Row], keep: str, tokens: str) -> str:
    """The span of shifts before and after the LLM's layers."""
    sites = sites_of(drawn)
    spans = []
    for site in dict.fromkeys((sites[0], sites[-1])):
        shifts = [row["shift"] for row in drawn if (row["site"], row["keep"]) == (site, keep)]
        if shifts:
            ends = dict.fromkeys((number(min(shifts)), number(max(shifts))))
            spans.append(f"{' to '.join(ends)} {PLACES[site]}")
    whose = "the visual tokens" if tokens == "visual" else "the question's tokens"
    return f"At keep {keep_label(keep)}, ln IPR_U of {whose} shifts by {' and by '.join(spans)}."


def _caption(tokens: str, more_models: int, more_keeps: int) -> str:
    mean = "the full run's mean token" if tokens == "visual" else "their own mean"
    first = "after the projector, and" if tokens == "visual" else "at"
    caption = (
        f"Shift of ln IPR_U from full to reduced, tokens centred by {mean}: mean over samples, seeds and datasets. "
        f"Sites: {first} the inputs of the LLM's first layer, of those at ¼, ½ and ¾ of its depth, and of the last. A "
        "method that prunes inside the LLM moves nothing before its first stage. A point is left out where some cell "
        "has no number."
    )
    if more_models:
        caption += f" {count(more_models, 'more model')} in the table."
    if more_keeps:
        caption += f" {count(more_keeps, 'more keep')} in the table."
    return caption


def _along(rows: Sequence[Row], axes: tuple[str, ...]) -> list[Row]:
    """One row per combination of `axes`, with the shift at each site under the site's name."""
    found = []
    for group in groups(rows, axes):
        named: Row = {axis: group[0][axis] for axis in axes} | {site: None for site in SITES}
        named |= {row["site"]: row["shift"] for row in group}
        sizes = [row["n"] for row in group]
        found.append(named | {"pairs": max(row["pairs"] for row in group), "n": min(sizes), "n_most": max(sizes)})
    return found


def _columns(first: Sequence[Column], rows: Sequence[Row], count_of: str) -> list[Column]:
    sites = [decimal(SITES[site], site, "sites", 3) for site in sites_of(rows)]
    size = Column("n", _n, lambda row: row["n"], "n")
    return [*first, *sites, decimal(count_of, "pairs", digits=0), size]


def _n(row: Row) -> str:
    return count(row["n"]) if row["n"] == row["n_most"] else f"{count(row['n'])} to {count(row['n_most'])}"


def _ordered(audit: Audit, rows: list[Row]) -> list[Row]:
    methods, keeps = (*BASELINES, *audit.methods), (KEEP_ALL, *audit.keeps, OWN_COUNT)
    return sorted(rows, key=lambda row: (methods.index(row["method"]), keeps.index(row["keep"])))


def site_table(audit: Audit, rows: Sequence[Row], name: str, caption: str, sql: str) -> Table:
    """The primary statistic: one row per model, method and keep, one column per site."""
    along = _ordered(audit, _along(rows, ("model", "method", "keep")))
    along.sort(key=lambda row: audit.models.index(row["model"]))
    first = (METHOD, KEEP) if len(audit.models) == 1 else (MODEL, METHOD, KEEP)
    columns = _columns(first, rows, "datasets")
    return table(name, f"{caption}, centred, by site", columns, along, how=_how(rows, sql))


def other_statistics(audit: Audit) -> Table | None:
    """A few statistics of both token sets, raw and centred: means over models and datasets; None without any."""
    axes = ("statistic", "tokens", "centred", "method", "keep")
    sql = query(OTHERS, ", ".join(axes))
    rows = audit.select(sql)
    if not rows:
        return None
    along = sorted(_ordered(audit, _along(rows, axes)), key=lambda row: (row["statistic"], row["tokens"] == "text"))
    first = (STATISTIC, TOKENS, FORM, METHOD, KEEP)
    caption = f"Shift of the logarithm of a few statistics by site, mean over models and datasets ({NONE}: not defined)"
    how = _how(rows, sql)
    return table("layers-others", caption, _columns(first, rows, "pairs"), along, MOST_OTHERS, how)
