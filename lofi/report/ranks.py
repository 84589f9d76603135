"""The order of the methods at one keep: how sure it is, and whether datasets tell the same."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from lofi.cell import KEEP_ALL, OWN_COUNT
from lofi.report.audit import Audit, groups
from lofi.report.drawing import MARKERS, Figure, canvas, finish, heading, legend, styles
from lofi.report.how import How
from lofi.report.page import Finding
from lofi.report.tables import KEEP, METHOD, MODEL, Column, Table, decimal, share, table, telling, text, whole
from lofi.report.words import count, keep_name, listing, number, percent
from lofi.tables import Row, literal

MADE_BY = ("stats/ranking.py:ranked", "stats/ranking.py:as_table", "stats/ranking.py:order_changes")
MAX_MODELS = 4  # panels of the figure
NAMED = 3
MOST = 1000  # rows of a table
MAX_VECTORS = 1500  # more marks than this are drawn as a picture inside the drawing
STABILITY = """\
WITH of_datasets AS (
    SELECT model, keep, dataset, any_value(kendall_w) AS kendall_w, any_value(order_changes) AS order_changes,
        count(*) AS n_methods, arg_max(method, best) AS first
    FROM ranks
    GROUP BY model, keep, dataset
)
SELECT model, keep, count(*) AS n_datasets, max(n_methods) AS n_methods, any_value(kendall_w) AS kendall_w,
    avg(order_changes ORDER BY dataset) AS order_changes, min(order_changes) AS order_changes_low,
    max(order_changes) AS order_changes_high, count(DISTINCT first) AS n_first
FROM of_datasets
GROUP BY model, keep
ORDER BY model, keep"""


def places(keep: str) -> str:
    """The SELECT of every method's place at one keep."""
    return f"""\
SELECT model, dataset, keep, method, n, n_seeds, ranks.agreement, agreement_low, agreement_high,
    rank, rank_low, rank_high, best, mean_rank, order_changes, kendall_w, n_datasets, n_methods
FROM ranks JOIN methods USING (model, dataset, method, keep)
WHERE keep = {literal(keep)}
ORDER BY dataset, model, rank, method"""


def finding(keep: str, rows: list[Row]) -> Finding:
    """How often another set of images would order the methods differently, and whether datasets agree."""
    blocks = [group[0] for group in groups(rows, ("model", "dataset"))]
    changes = [row["order_changes"] for row in blocks]
    mean = sum(changes) / len(changes)
    span = f" ({percent(min(changes))} to {percent(max(changes))} by model and dataset)" if len(blocks) > 1 else ""
    headline = f"At {keep_name(keep)} the order of the methods changes in {percent(mean)} of the draws of images{span}."
    shared = {row["model"]: row["kendall_w"] for row in blocks if row["kendall_w"] is not None}
    if shared:
        found = listing([f"{number(w)} on {model}" for model, w in shared.items()][:5])
        detail = (
            f"Across datasets the orders agree with Kendall's W of {found} (1: the same order, 0: nothing shared). "
        )
    else:
        detail = "Whether datasets order the methods alike is unknown: that needs two of them and two methods. "
    firsts = [max(group, key=lambda row: row["best"]) for group in groups(rows, ("model", "dataset"))]
    sure = sum(row["best"] >= 0.95 for row in firsts)
    detail += (
        f"The same method comes first in at least 95 % of the draws on {sure} of {_blocks(len(firsts))}; "
        f"n = {count(min(row['n'] for row in rows))} answers or more for each method."
    )
    return Finding(headline, detail, _how(keep, rows))


def drawing(audit: Audit, keep: str, rows: list[Row]) -> Figure:
    """The place of every method on every dataset, one panel for each model."""
    models = [model for model in audit.models if any(row["model"] == model for row in rows)]
    shown = models[:MAX_MODELS]
    methods = [method for method in audit.methods if any(row["method"] == method for row in rows)]
    datasets = [dataset for dataset in audit.datasets if any(row["dataset"] == dataset for row in rows)]
    figure, [panels] = canvas(1, len(shown), 1.0 + 0.3 * max(3, len(methods)), sharex=True, sharey=True)
    look = styles(audit.methods, audit.random)
    for axes, model in zip(panels, shown, strict=True):
        for place, dataset in enumerate(datasets):
            here = [row for row in rows if (row["model"], row["dataset"]) == (model, dataset)]
            y = [methods.index(row["method"]) + 0.6 * (place + 0.5) / len(datasets) - 0.3 for row in here]
            colours = [look[row["method"]].colour for row in here]
            low, high = ([row[f"rank_{end}"] for row in here] for end in ("low", "high"))
            as_picture = 2 * len(rows) > MAX_VECTORS
            axes.hlines(y, low, high, colors=colours, linewidth=1, alpha=0.6, rasterized=as_picture)
            marker = MARKERS[place % len(MARKERS)]
            x = [row["rank"] for row in here]
            axes.scatter(x, y, c=colours, marker=marker, s=18, linewidths=0, rasterized=as_picture)
        heading(axes, model)
        axes.set_xlabel("place by agreement (1 agrees most)")
        axes.set_yticks(range(len(methods)), [audit.label(method) for method in methods], parse_math=False)
        axes.set_ylim(len(methods) - 0.4, -0.6)
    _name_datasets(figure, panels[0], datasets)
    caption = (
        "The place of each method by agreement among the methods of its model, dataset and keep; methods that agree "
        "equally often share the mean of their places. Lines: 95 % of the places over draws of the dataset's images. "
        "Inside the band of a method, datasets stand in the order of the report, from above."
    )
    if len(models) > MAX_MODELS:
        caption += f" The first {MAX_MODELS} of {len(models)} models are drawn; the table has all."
    return finish(figure, "fig-ranks", _title(rows, keep), caption, _how(keep, rows), rows)


def _name_datasets(figure: Canvas, axes: Axes, datasets: list[str]) -> None:
    """A mark for each dataset, while marks differ."""
    if 1 < len(datasets) <= len(MARKERS):
        for marker, dataset in zip(MARKERS, datasets, strict=False):
            axes.scatter([], [], c="#444444", marker=marker, s=18, linewidths=0, label=dataset)
        legend(figure, axes)


def _title(rows: list[Row], keep: str) -> str:
    """Who is first on how many pairs of model and dataset."""
    blocks = groups(rows, ("model", "dataset"))
    first: dict[str, int] = {}
    for block in blocks:
        top = min(row["rank"] for row in block)
        for method in (row["method"] for row in block if row["rank"] == top):
            first[method] = first.get(method, 0) + 1
    most = max(first.values())
    names = [method for method, times in first.items() if times == most]
    named = listing(names) if len(names) <= NAMED else f"each of {count(len(names), 'method')}"
    verb = "agree" if 1 < len(names) <= NAMED else "agrees"
    tied = ", alone or tied," if sum(first.values()) > len(blocks) else ""
    return f"At {keep_name(keep)}, {named} {verb} most often{tied} on {most} of {_blocks(len(blocks))}."


def _blocks(n: int) -> str:
    return f"{count(n, 'pair')} of model and dataset"


def _how(keep: str, rows: list[Row]) -> How:
    sizes = [row["n"] for row in rows]
    span = count(sizes[0]) if len(set(sizes)) == 1 else f"{count(min(sizes))} to {count(max(sizes))}"
    return How(places(keep), MADE_BY, f"n = {span} answers for each place, the seeds of a method together")


def _place(row: Row) -> str:
    return f"{number(row['rank'], 1).removesuffix('.0')} [{row['rank_low']:g}, {row['rank_high']:g}]"


PLACES = (
    text("dataset", "dataset"),
    METHOD,
    share("answers kept (agreement)", "agreement", "agreement", bar=True),
    Column("place", _place, lambda row: row["rank"], "rank", bounds="rank"),
    share("first in", "best", "best"),
    decimal("mean place", "mean_rank", "mean-rank", 1),
    whole("methods", "n_methods"),
    whole("n", "n", "n"),
)
STABLE = (
    MODEL,
    KEEP,
    whole("datasets", "n_datasets"),
    whole("methods", "n_methods"),
    decimal("Kendall's W", "kendall_w", "kendall-w", 2),
    Column(
        "order changes (least to most)",
        lambda row: (
            f"{percent(row['order_changes'])} ({percent(row['order_changes_low'])} to "
            f"{percent(row['order_changes_high'])})"
        ),
        lambda row: row["order_changes"],
        "order-changes",
    ),
    whole("methods that are first somewhere", "n_first", "best"),
)


def place_table(audit: Audit, keep: str, rows: list[Row]) -> Table:
    """Every place at one keep, with the share of draws in which it is the first."""
    caption = f"Places of the methods at {keep_name(keep)}"
    order = {dataset: at for at, dataset in enumerate(audit.datasets)}
    shown = sorted(rows, key=lambda row: (order[row["dataset"]], audit.models.index(row["model"]), row["rank"]))
    return table("ranks", caption, telling(audit, PLACES), shown, MOST, _how(keep, rows))


def stability_table(audit: Audit) -> Table:
    """How sure the order is at every keep."""
    rows = audit.select(STABILITY)
    keeps = (KEEP_ALL, *audit.keeps, OWN_COUNT)
    rows.sort(key=lambda row: (audit.models.index(row["model"]), keeps.index(row["keep"])))
    n = "over the datasets of a model; every share is over the draws of a dataset's images"
    return table(
        "order", "How sure the order of the methods is, by keep", STABLE, rows, MOST, How(STABILITY, MADE_BY, n)
    )
