"""Every divergence beside the noise floor's: which points exceed it, and the figure of changed answers and KL."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from lofi.cell import FLOOR, FULL
from lofi.report.audit import Audit, groups, over_datasets
from lofi.report.drawing import Figure, canvas, finish, heading, marks, styles
from lofi.report.how import How
from lofi.report.measured import MADE_BY, Measure, query, shown_keep
from lofi.report.words import SPACE, count, keep_name, keep_phrase, percent, small
from lofi.tables import Row

CHANGED, TEXTS, KL = Measure("answer", "divergence_rate"), Measure("text", "identical"), Measure("tokens", "kl")
TOKEN_MARGIN, OPTION_MARGIN = (Measure(channel, "answer_margin") for channel in ("tokens", "options"))
MEASURES = (
    *(CHANGED, TEXTS, KL, Measure("tokens", "js"), Measure("tokens", "tv"), TOKEN_MARGIN),
    *(Measure("options", name) for name in ("kl", "js", "tv")),
    OPTION_MARGIN,
)
QUERY = query(MEASURES, f"method <> '{FULL}'")
MEAN = "report/audit.py:over_datasets"
ABOVE, WITHIN, OPEN, NO_FLOOR = "above the floor", "within the floor", "no interval", "no floor"


def verdict(row: Row) -> str:
    """Whether a point changes more answers than the floor does, as far as its interval tells."""
    excess, low = row[f"{CHANGED.key}_excess"], row[f"{CHANGED.key}_excess_low"]
    if excess is None:
        return NO_FLOOR
    if excess <= 0:
        return WITHIN
    if low is None:
        return OPEN
    return ABOVE if low > 0 else WITHIN


def how_of(query: str, rows: Sequence[Row], made_by: Sequence[str] = MADE_BY) -> How:
    """Where the numbers of these points come from."""
    n = sum(row[f"n_{CHANGED.key}"] or 0 for row in rows)
    return How(query, tuple(made_by), f"n = {count(n, 'answer')} in {count(len(rows), 'row')}, seeds added up")


def floor_figure(audit: Audit, rows: list[Row]) -> Figure | None:
    """Changed answers and KL of every method at a middle keep, and what of them the floor has too."""
    keep = shown_keep(audit)
    n_pairs = len({(row["model"], row["dataset"]) for row in rows})
    means = {
        group[0]["method"]: over_datasets(group, ("method", "keep"))
        for group in groups([row for row in rows if row["keep"] == keep], ("method",))
        if len(group) == n_pairs
    }
    drawn = [means[method] for method in audit.methods if method in means and means[method][CHANGED.key] is not None]
    if keep is None or not drawn:
        return None
    floor = over_datasets([row for row in rows if row["method"] == FLOOR], ("method", "keep"))
    figure, [[left, right]] = canvas(1, 2, 1.1 + 0.24 * max(4, len(drawn)), sharey=True)
    _bars(audit, left, drawn, floor[CHANGED.key])
    _points(audit, right, drawn, floor[KL.key])
    left.set_yticks(range(len(drawn)), [audit.label(row["method"]) for row in drawn], parse_math=False)
    left.set_ylim(len(drawn) - 0.4, -0.6)
    where = f"keep = '{keep}' OR method = '{FLOOR}'"
    how = how_of(query((CHANGED, KL), f"({where}) AND method <> '{FULL}'"), drawn, (*MADE_BY, MEAN))
    caption = (
        f"Keeping {keep_phrase(keep)}: means over {count(n_pairs, 'pair')} of model and dataset with a floor, and over "
        "seeds. Dotted: the floor. Left: the share of changed answers, hatched as far as the floor goes; the rest is "
        f"the excess, with its 95{SPACE}% interval (bootstrap over images, cell and floor on the same draws), drawn "
        "from the floor on: where it lies to the right of the dotted line, a method changes more answers. Right, on a "
        "logarithmic axis: the mean KL from full to reduced over the whole vocabulary at the first answer position, a "
        f"ring around its excess over the floor. {_floor_words(floor[KL.key])}"
    )
    rows_out = [{"method": r["method"], "keep": keep, **{k: v for k, v in r.items() if _in_figure(k)}} for r in drawn]
    return finish(figure, "fig-noise", _title(keep, drawn), caption, how, rows_out)


def _in_figure(column: str) -> bool:
    return column.removeprefix("n_").startswith((CHANGED.key, KL.key)) and not column.endswith(("_value", "_full"))


def _floor_words(kl: float | None) -> str:
    if kl is None or kl <= 0:
        return f"The floor has a KL of {small(kl)}, which has no place on this axis."
    return f"The floor has {small(kl)} nats."


def _title(keep: str, drawn: list[Row]) -> str:
    above = [row for row in drawn if verdict(row) == ABOVE]
    least = min(drawn, key=lambda row: float(row[CHANGED.key]))
    who = (
        f"all of {count(len(drawn), 'method')} change"
        if len(above) == len(drawn) > 1
        else (f"{len(above)} of {count(len(drawn), 'method')} {'changes' if len(above) == 1 else 'change'}")
    )
    return (
        f"At {keep_name(keep)}, {who} more answers than the floor does; the fewest, "
        f"{percent(least[CHANGED.key])}, {least['method']}."
    )


def _bars(audit: Audit, axes: Axes, drawn: list[Row], floor: float | None) -> None:
    look = styles(audit.methods, audit.random)
    key = CHANGED.key
    for at, row in enumerate(drawn):
        excess = row[f"{key}_excess"] or 0.0
        shared = 100 * min(row[key], row[key] - excess)
        axes.barh(at, shared, color="#b5b5b5", hatch="////", height=0.7)
        axes.barh(at, 100 * row[key] - shared, left=shared, color=look[row["method"]].colour, height=0.7)
        bounds = [row[f"{key}_excess_{end}"] for end in ("low", "high")]
        if None not in bounds:
            low, high = (100 * (row[key] - excess + bound) for bound in bounds)
            axes.hlines(at, low, high, color="#222222", linewidth=1.2)
    if floor is not None:
        axes.axvline(100 * floor, color="#333333", linewidth=1, linestyle=(0, (1, 1)))
    heading(axes, "answers changed")
    axes.set_xlabel("share of answers (%)")


def _points(audit: Audit, axes: Axes, drawn: list[Row], floor: float | None) -> None:
    look = styles(audit.methods, audit.random)
    for at, row in enumerate(drawn):
        value, excess = row[KL.key], row[f"{KL.key}_excess"]
        style = look[row["method"]]
        if value is not None and value > 0:
            axes.plot(value, at, marker=style.marker, color=style.colour, markersize=6, linestyle="none")
        if excess is not None and excess > 0:
            axes.plot(excess, at, "o", ms=11, fillstyle="none", color="#333333", markeredgewidth=0.8)
    if floor is not None and floor > 0:
        axes.axvline(floor, color="#333333", linewidth=1, linestyle=(0, (1, 1)))
    heading(axes, "KL to the full model")
    axes.set_xlabel("nats")
    _logarithmic(axes, [value for value in (floor, *(row[KL.key] for row in drawn)) if value is not None and value > 0])


def _logarithmic(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis, if anything can be on it; over less than two decades 1, 2 and 5 are named in each."""
    if not values:
        return
    axes.set_xscale("log")
    if max(values) < 100 * min(values):
        marks(axes.xaxis, LogLocator(subs=(1, 2, 5)).tick_values(min(values), max(values)))
    else:
        axes.xaxis.set_major_formatter("{x:g}")
