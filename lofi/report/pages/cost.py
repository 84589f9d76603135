"""Cost: how long each stage took, beside how much work the LLM was left with, all relative to the full model."""

from collections.abc import Sequence
from math import floor, log10

from markupsafe import Markup
from matplotlib.axes import Axes

from lofi.cell import FLOOR
from lofi.report.audit import Audit
from lofi.report.drawing import MAX_VECTORS, Figure, Style, canvas, finish, heading, legend, marks, styles
from lofi.report.how import How
from lofi.report.measured import filled, place
from lofi.report.page import Block, Finding, Page, Prose
from lofi.report.sentences import mid_keep
from lofi.report.tables import KEEP, METHOD, Column, Table, decimal, share, table, telling, text, whole
from lofi.report.words import count, keep_name, listing, number, percent
from lofi.tables import Row

STAGES = {"t_vision_ms": "encode", "t_select_ms": "select", "t_prefill_ms": "prefill", "t_decode_ms": "decode"}
WORK = ("decoder_tokens", "prefill_flops", "cache_bytes")
MADE_BY = ("stats/cells.sql", "stats/timings.sql")
MAX_MODELS = 12
SHARES = (1, 2, 5, 10, 20, 30, 50, 70, 100)  # percent
TIMES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
MEANS = ",\n        ".join(
    # in the order of seeds, so that the last digit is the same every time
    f"CASE WHEN count({name}) = count(*) THEN avg({name} ORDER BY seed) END AS {name}"
    for name in (*STAGES, *WORK)
)
# One row per point of the sweep; a time is compared with full's where both ran on one device.
POINTS = f"""\
WITH means AS (
    SELECT
        model, dataset, method, keep, min(weights) AS weights, avg(keep_ratio ORDER BY seed) AS keep_ratio,
        sum(n)::BIGINT AS n,
        CASE WHEN count(device) = count(*) THEN string_agg(DISTINCT device, '; ' ORDER BY device) END AS device,
        {MEANS}
    FROM cells LEFT JOIN timings USING (model, dataset, method, keep, seed)
    GROUP BY model, dataset, method, keep
),
points AS (
    SELECT
        *,
        t_select_ms + t_prefill_ms AS t_read_ms,
        t_vision_ms + t_select_ms + t_prefill_ms + coalesce(t_decode_ms, 0) AS t_all_ms
    FROM means
)
SELECT
    this.*,
    CASE WHEN this.device = reference.device THEN this.t_read_ms / nullif(reference.t_read_ms, 0) END AS read_ratio,
    CASE WHEN this.device = reference.device THEN this.t_all_ms / nullif(reference.t_all_ms, 0) END AS time_ratio,
    this.decoder_tokens / nullif(reference.decoder_tokens, 0) AS token_ratio,
    this.prefill_flops / nullif(reference.prefill_flops, 0) AS flop_ratio,
    this.prefill_flops / 1e9 AS prefill_gflops,
    this.cache_bytes / 1024 ** 2 AS cache_mib
FROM points AS this
LEFT JOIN (FROM points WHERE method = 'full') AS reference
    ON reference.model = this.model AND reference.dataset = this.dataset
ORDER BY ALL"""
# Geometric means over the datasets of a model; none where one of them lacks the number.
OVER_DATASETS = f"""\
WITH found AS (
{POINTS}
)
SELECT
    model, method, keep, count(*) AS n_datasets, sum(n)::BIGINT AS n,
    exp(avg(ln(token_ratio) ORDER BY dataset)) AS token_ratio, exp(avg(ln(read_ratio) ORDER BY dataset)) AS read_ratio
FROM found
WHERE method <> 'full'
GROUP BY model, method, keep
HAVING count(token_ratio) = count(*) AND count(nullif(read_ratio, 0)) = count(*)
    AND count(*) = (SELECT count(DISTINCT dataset) FROM cells WHERE cells.model = found.model)
ORDER BY ALL"""


def three_digits(value: float | None) -> str:
    """A number of any size with three digits that count, and never fewer than before the point."""
    return number(value, max(0, 2 - floor(log10(value)))) if value else number(value, 0)


def _sized(label: str, column: str, definition: str) -> Column:
    return Column(label, lambda row: three_digits(row[column]), lambda row: row[column], definition)


TIME = (
    text("dataset", "dataset"),
    METHOD,
    KEEP,
    share("select and prefill / full", "read_ratio", "relative-time"),
    share("all stages / full", "time_ratio", "relative-time"),
    decimal("all stages (ms)", "t_all_ms", "stage-times", 2),
    *(decimal(f"{name} (ms)", column, "stage-times", 2) for column, name in STAGES.items()),
    whole("n", "n", "n"),
    Column("device", lambda row: row["device"] or "not stored", lambda row: row["device"], numeric=False),
)
LEFT = (
    text("dataset", "dataset"),
    METHOD,
    KEEP,
    decimal("decoder tokens", "decoder_tokens", "decoder-tokens"),
    share("tokens / full", "token_ratio", "decoder-tokens", bar=True),
    _sized("prefill GFLOPs", "prefill_gflops", "prefill-flops"),
    share("GFLOPs / full", "flop_ratio", "prefill-flops", bar=True),
    _sized("cache (MiB)", "cache_mib", "cache-bytes"),
    whole("n", "n", "n"),
)


def pages(audit: Audit) -> list[Page]:
    """One page."""
    rows = sorted(audit.select(POINTS), key=lambda row: place(audit, row))
    blocks: list[Block] = [finding(audit, rows)]
    means = audit.select(OVER_DATASETS)
    if any(row["method"] != FLOOR for row in means):
        blocks.append(figure(audit, means))
    how = How(POINTS, MADE_BY, _n(rows))
    blocks += [_caution(rows), _table(audit, "cost-time", "Time of one answer by stage", TIME, rows, how)]
    blocks += [_left(rows), _table(audit, "cost-work", "What the LLM is left with", LEFT, rows, how)]
    return [Page("cost", "Cost", blocks, terms=("stage-times", "relative-time", "decoder-tokens", "prefill-flops"))]


def _table(audit: Audit, id: str, caption: str, columns: Sequence[Column], rows: list[Row], how: How) -> Table:
    return table(id, caption, filled(telling(audit, columns), rows), rows, how=how)


def finding(audit: Audit, rows: list[Row]) -> Finding:
    """What is left of tokens and of time at the keep in the middle, and how much the time of the same work varies."""
    keep = mid_keep(audit)
    here = [row for row in rows if row["keep"] == keep and row["method"] in audit.methods]
    tokens = _spread([row["token_ratio"] for row in here])
    times = _spread([row["read_ratio"] for row in here])
    how = How(POINTS, MADE_BY, _n(here or rows))
    if keep is None or tokens is None:
        return Finding("No tokens were counted for any reduced cell at one keep.", _noise(rows), how)
    headline = f"At {keep_name(keep)} the LLM reads {tokens} of the full model's visual and question tokens"
    flops = _spread([row["flop_ratio"] for row in here])
    if flops:
        headline += f", and its prefill takes {flops} of the operations"
    if times is None:
        return Finding(f"{headline}.", f"No time can be compared with the full model's. {how.n}.", how)
    detail = (
        f"Selecting and prefilling took {times} of the full model's time, over {count(len(here), 'combination')} of "
    )
    return Finding(f"{headline}.", f"{detail}model, dataset and method; {how.n}. {_noise(rows)}", how)


def _spread(values: Sequence[float | None]) -> str | None:
    """`38.0 %`, or `30.1 % to 41.0 %`; None where nothing is known."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    low, high = percent(min(known)), percent(max(known))
    return low if low == high else f"{low} to {high}"


def _noise(rows: list[Row]) -> str:
    """How much time the same model takes when it is run again."""
    again = _spread([row["read_ratio"] for row in rows if row["method"] == FLOOR])
    if again is None:
        return "Without a floor on the same device nobody knows how much of a difference in time is the machine's."
    return (
        f"The full model itself, run again in other batches (floor), took {again}: what lies within that may be noise."
    )


def _n(rows: Sequence[Row]) -> str:
    return f"n = {count(sum(row['n'] for row in rows), 'answer')}, seeds added up"


def _caution(rows: list[Row]) -> Prose:
    """Where the times come from, and what they are not."""
    devices = sorted({row["device"] for row in rows if row["device"]})
    named = listing(devices[:3]) if devices else "a device that the sample files do not name"
    if len(devices) > 3:
        named += f" and {len(devices) - 3} more"
    apart = sum(row["time_ratio"] is None for row in rows)
    words = (
        "<p><strong>Read times with care.</strong> They were taken on {} while the sweep ran. On a machine that others "
        "share they are mostly noise, and they compare only on one and the same device. Cells of one job share the "
        "encoding of an image, and questions about one image its system text and visual tokens; a method that sees the "
        "question or acts inside the LLM reads them again for each question. So this is what a sweep pays, and not the "
        "latency of one request."
    )
    if apart:
        words += " A dash: {} not run on the device of its full model, or either is not stored."
    missing = f"{count(apart, 'row')} {'was' if apart == 1 else 'were'}"
    return Prose(Markup(words + "</p>").format(*([named, missing] if apart else [named])))


def _left(rows: list[Row]) -> Prose:
    """What is counted and what is not."""
    words = (
        "<p>Tokens, operations and cache are counted, not timed: the same on every machine. They are of the LLM's "
        "prefill of one question by itself. Encoder, projector, the method's own work and decoding are not in them.</p>"
    )
    if not any(row["prefill_flops"] is not None for row in rows):
        words += (
            "<p>Operations and cache are not shown: the sample files do not say what a token costs this model's "
            "decoder. Files that this version of lofi evaluates do.</p>"
        )
    return Prose(Markup(words))


def figure(audit: Audit, means: list[Row]) -> Figure:
    """Time of selecting and prefilling over the tokens that are left, one panel per model."""
    rows = [row for row in means if row["method"] != FLOOR]
    models = [model for model in audit.models if any(row["model"] == model for row in rows)]
    shown = models[:MAX_MODELS]
    columns = min(3, len(shown))
    sheet, grid = canvas(-(-len(shown) // columns), columns, 3.2, sharex=True, sharey=True)
    look = styles(audit.methods, audit.random)
    panels = [axes for line in grid for axes in line]
    for position, (axes, model) in enumerate(zip(panels, shown, strict=False)):
        heading(axes, model)
        here = [row for row in means if row["model"] == model]
        _panel(audit, axes, here, look, len(rows) > MAX_VECTORS)
        axes.set_xlabel("decoder tokens (% of full)")
        if position % columns == 0:
            axes.set_ylabel("time to select and prefill (% of full)")
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    legend(sheet, panels[0])
    faster = sum(row["read_ratio"] < 1 for row in rows)
    title = (
        f"In {faster} of {count(len(rows), 'combination')} of model, method and keep, selecting and prefilling took "
        "less time than in full."
    )
    caption = (
        "Time to select tokens and prefill the LLM over the visual and question tokens that it reads, both relative to "
        "full on the same model, dataset and device; geometric means over datasets, both axes logarithmic. On the "
        "dashed diagonal time falls as tokens do. Dotted: the floor, which is full run again."
    )
    if len(models) > MAX_MODELS:
        caption += f" Only the first {MAX_MODELS} of {len(models)} models are drawn; the table has all."
    how = How(OVER_DATASETS, MADE_BY, _n(rows))
    return finish(sheet, "fig-cost", title, caption, how, means)


def _panel(audit: Audit, axes: Axes, rows: list[Row], look: dict[str, Style], picture: bool) -> None:
    """One line per method, the diagonal and the floor."""
    for method in audit.methods:
        points = sorted((row for row in rows if row["method"] == method), key=lambda row: float(row["token_ratio"]))
        style = look[method]
        axes.plot(
            [100 * row["token_ratio"] for row in points], [100 * row["read_ratio"] for row in points],
            color=style.colour, marker=style.marker, linestyle=style.dash, linewidth=1.3, markersize=5,
            markeredgecolor="white", markeredgewidth=0.5, label=audit.label(method), rasterized=picture,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.axhline(100, color="#999999", linewidth=1)
    ends = [100 * min(row["token_ratio"] for row in rows), 100.0]
    axes.plot(ends, ends, color="#8a8a8a", linewidth=1, linestyle=(0, (5, 3)), zorder=0)
    for again in (row for row in rows if row["method"] == FLOOR):
        axes.axhline(100 * again["read_ratio"], color="#333333", linewidth=1, linestyle=(0, (1, 1)))
    marks(axes.xaxis, SHARES)
    marks(axes.yaxis, TIMES)
