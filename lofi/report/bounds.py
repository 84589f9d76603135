"""Upper bounds of risks at each keep: the query, the table and the figure of them."""

from collections import Counter
from collections.abc import Sequence

from matplotlib.axes import Axes

from lofi.report.audit import Audit
from lofi.report.drawing import MAX_VECTORS, Figure, Style, canvas, finish, heading, legend, marks, styles
from lofi.report.how import How
from lofi.report.tables import METHOD, Column, Table, decimal, table, telling, text, whole
from lofi.report.words import SPACE, count, keep_label, percent
from lofi.tables import Row

LOST, CHANGED = "negative_flip", "divergence"
NAMES = {LOST: "negative flips", CHANGED: "changed answers"}
MADE_BY = ("stats/risks.sql", "stats/risks.py:upper_bound")
MAX_PAIRS = 12
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)  # percent
WITHIN = "within the limit"
# The seed with the highest bound stands for a keep, because each seed must pass. Keeps are in the order of their tests.
BOUNDS = """\
WITH worst AS (
    SELECT
        model, dataset, method, keep, count(*) AS seeds, max(n) AS n, max(n_images) AS n_images,
        CASE WHEN count(layer_mean_tokens) = count(*) THEN max(layer_mean_tokens) END AS tokens,
        CASE WHEN count(upper) = count(*) THEN max(upper) END AS upper,
        arg_max(rate, upper) AS rate, arg_max(n_events, upper) AS n_events, arg_max(n_errors, upper) AS n_errors
    FROM risks
    WHERE risk = '{risk}' AND method <> 'floor'
    GROUP BY ALL
),
tested AS (
    SELECT
        *,
        row_number() OVER keeps AS place,
        bool_and(coalesce(upper <= max_rate, false)) OVER keeps AS passed
    FROM worst
    JOIN (SELECT model, dataset, method, max_rate FROM certificates WHERE risk = '{risk}')
        USING (model, dataset, method)
    WINDOW keeps AS (PARTITION BY model, dataset, method ORDER BY tokens DESC NULLS FIRST, keep)
)
SELECT
    * EXCLUDE (place, passed),
    CASE
        WHEN passed THEN 'within the limit'
        WHEN lag(passed, 1, true) OVER (PARTITION BY model, dataset, method ORDER BY place) THEN 'testing stopped here'
        ELSE 'not tested'
    END AS outcome
FROM tested
ORDER BY model, dataset, method, place"""


def sizes(rows: Sequence[Row]) -> str:
    """`n = 400 answers about 100 images in each cell`."""
    answers, images = ([row[name] for row in rows] for name in ("n", "n_images"))
    return f"n = {span(answers, 'answer')} about {span(images, 'image')} in each cell"


def span(numbers: Sequence[int], noun: str) -> str:
    """`100 images`, or `100 to 400 images`."""
    low, high = min(numbers), max(numbers)
    return count(high, noun) if low == high else f"{count(low)} to {count(high, noun)}"


def limit(rows: Sequence[Row]) -> str:
    """The limit in force, as `2 %`."""
    return f"{100 * rows[0]['max_rate']:g}{SPACE}%"


def fine(label: str, column: str, definition: str) -> Column:
    """A share to two decimals: limits are small."""
    return Column(label, lambda row: percent(row[column], 2), lambda row: row[column], definition)


AT_EACH_KEEP = (
    text("dataset", "dataset"),
    METHOD,
    Column("keep", lambda row: keep_label(row["keep"]), lambda row: row["keep"], "keep"),
    decimal("layer-mean tokens", "tokens", "layer-mean"),
    whole("gone wrong", "n_events", "rate-seen"),
    fine("rate seen", "rate", "rate-seen"),
    fine("upper bound", "upper", "upper-bound"),
    whole("n", "n", "n"),
    whole("images", "n_images", "images"),
    whole("failed", "n_errors", "rate-seen"),
    whole("seeds", "seeds"),
    text("outcome", "outcome", "certified-keep"),
)


def bounds_table(audit: Audit, risk: str, rows: list[Row]) -> Table:
    """Every keep of every method, in the order in which they are tested."""
    how = How(BOUNDS.format(risk=risk), MADE_BY, sizes(rows))
    title = f"How often each keep led to {NAMES[risk]}, and how often at most; of several seeds the worst"
    return table(f"bounds-{risk.replace('_', '-')}", title, telling(audit, AT_EACH_KEEP), rows, how=how)


def figure(audit: Audit, rows: list[Row]) -> Figure:
    """Upper bounds over the tokens that are left, one panel per pair of model and dataset."""
    pairs = [pair for pair in audit.pairs if any((row["model"], row["dataset"]) == pair for row in rows)]
    shown = pairs[:MAX_PAIRS]
    columns = min(3, len(shown))
    sheet, grid = canvas(-(-len(shown) // columns), columns, 2.6, sharey=True)
    look = styles(audit.methods, audit.random)
    panels = [axes for line in grid for axes in line]
    drawn = [row for row in rows if (row["model"], row["dataset"]) in shown]
    low = min(row[name] for row in drawn for name in ("upper", "max_rate"))
    for place, (axes, (model, dataset)) in enumerate(zip(panels, shown, strict=False)):
        here = [row for row in drawn if (row["model"], row["dataset"]) == (model, dataset)]
        heading(axes, dataset if len(audit.models) == 1 else f"{dataset}, {model}")
        _panel(audit, axes, here, look, len(drawn) > MAX_VECTORS)
        axes.set_ylim(100 * low / 1.3, min(115, 130 * max(row["upper"] for row in drawn)))
        axes.set_xlabel("visual tokens, mean over LLM layers")
        if place % columns == 0:
            axes.set_ylabel("upper bound (%)")
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    legend(sheet, panels[0])
    within = sum(row["outcome"] == WITHIN for row in rows)
    title = (
        f"In {within} of {count(len(rows), 'combination')} of model, dataset, method and keep, at most {limit(rows)} "
        f"{NAMES[LOST]} are shown."
    )
    caption = (
        f"The rate of {NAMES[LOST]} that is ruled out with one-sided confidence, over the visual tokens that are left; "
        "both axes logarithmic. Dashed line: the limit. Filled markers passed, with every keep of more tokens; hollow "
        "ones failed or were not tested. Of several seeds the worst is drawn."
    )
    if len(pairs) > MAX_PAIRS:
        caption += f" Only the first {MAX_PAIRS} of {len(pairs)} pairs are drawn; the tables have all."
    how = How(BOUNDS.format(risk=LOST), MADE_BY, sizes(rows))
    return finish(sheet, "fig-certification", title, caption, how, rows)


def _panel(audit: Audit, axes: Axes, rows: list[Row], look: dict[str, Style], picture: bool) -> None:
    """One line per method, and the limit."""
    for method in audit.methods:
        points = [row for row in rows if row["method"] == method]
        style = look[method]
        form = {"color": style.colour, "marker": style.marker, "markersize": 5, "rasterized": picture}
        x, y = [row["tokens"] for row in points], [100 * row["upper"] for row in points]
        label = audit.label(method)
        axes.plot(x, y, linestyle=style.dash, linewidth=1.3, markerfacecolor="white", label=label, **form)
        passed = [place for place, row in enumerate(points) if row["outcome"] == WITHIN]
        axes.plot([x[place] for place in passed], [y[place] for place in passed], linestyle="none", **form)
    axes.axhline(100 * rows[0]["max_rate"], color="#333333", linewidth=1, linestyle=(0, (4, 2)))
    axes.set_xscale("log")
    axes.set_yscale("log")
    _ticks(axes, rows)


def _ticks(axes: Axes, rows: list[Row]) -> None:
    """Marks at the counts that occur most, at least a third apart, and at round percentages."""
    places: list[float] = []
    for tokens, _ in Counter(float(row["tokens"]) for row in rows).most_common():
        if all(tokens > 1.33 * place or place > 1.33 * tokens for place in places):
            places.append(tokens)
    marks(axes.xaxis, places)
    marks(axes.yaxis, TICKS)
