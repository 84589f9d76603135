"""Answers kept over the tokens spent, drawn: by model with its frontier, and by pair of model and dataset."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from lofi.cell import FLOOR
from lofi.report.audit import BASELINES, Audit, groups
from lofi.report.drawing import (
    Figure,
    Style,
    as_picture,
    canvas,
    finish,
    floor_line,
    heading,
    legend,
    line,
    styles,
)
from lofi.report.measured import place
from lofi.report.spending import OF_MODELS, OF_PAIRS, by_model, by_pair, how, on_frontier
from lofi.report.words import count, keep_label, listing, percent
from lofi.tables import Row, literal

MAX_MODELS = 6  # of two panels each
MAX_PAIRS = 6
NAMED = 4  # methods named in a title
APART = 1.12  # ticks of a logarithmic axis closer than this would overlap


def frontier(audit: Audit, rows: list[Row]) -> Figure:
    """Every combination, one row of panels per model: all of it, and the part around its frontier closer."""
    treated = [row for row in rows if row["treated"]]
    models = [model for model in audit.models if any(row["model"] == model for row in treated)][:MAX_MODELS]
    shown = [row for row in treated if row["model"] in models]
    figure, grid = canvas(len(models), 2, 3.3)
    look = styles(audit.methods, audit.random)
    for model, (left, right) in zip(models, grid, strict=True):
        here = [row for row in shown if row["model"] == model]
        for axes in (left, right):
            _lines(audit, here, axes, "agreement", look)
            for best in groups(on_frontier(here), ("weights",)):
                x, y = ([100 * row[column] for row in best] for column in ("share", "agreement"))
                axes.step(x, y, where="post", color="#333333", linewidth=1.2, zorder=1.5, label="_frontier")
            _floor([row for row in rows if row["model"] == model], axes)
            _ticks(here, axes)
            axes.set_xlabel("visual tokens, mean over LLM layers (% of full)")
        heading(left, model)
        heading(right, f"{model}, near its frontier", bold=False)
        left.set_ylabel("answers kept (agreement, %)")
        bottom = min(100 * row[_lower(row)] for row in on_frontier(here))
        right.set_ylim(bottom - 0.15 * (101 - bottom), 100 + 0.06 * (101 - bottom))
    as_picture(grid, 2 * len(shown))
    _legend(audit, figure, [left for left, _ in grid])
    source = how(by_model(), OF_MODELS, shown)
    title = _title(audit, on_frontier(rows))
    return finish(figure, "fig-frontier", title, _caption(audit, len(models)), source, shown)


def _lower(row: Row) -> str:
    return "agreement" if row["agreement_low"] is None else "agreement_low"


def _title(audit: Audit, best: list[Row]) -> str:
    parts = []
    for model in audit.models:
        names = list(dict.fromkeys(row["method"] for row in best if row["model"] == model))
        if names:
            text = listing(names) if len(names) <= NAMED else f"{len(names)} methods"
            parts.append(f"on {model} {text} {'holds' if len(names) == 1 else 'hold'} the frontier")
    if len(parts) > 2:
        n = len({row["method"] for row in best})
        verb = "holds" if n == 1 else "hold"
        return f"{n} of {count(len(audit.methods), 'method')} {verb} the frontiers of {count(len(parts), 'model')}."
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


def _caption(audit: Audit, n_models: int) -> str:
    caption = (
        "One point per method and keep, the mean over all datasets of the model and all seeds, at the share of visual "
        "tokens that the LLM reads, averaged over its layers (logarithmic); right, the same from the frontier up. "
        "Vertical bars: 95 % intervals. Stepped line: the frontier, the most answers that any of them keeps with so "
        "many tokens or fewer. Counts less than one token apart are taken as equal. Dotted line: the noise floor."
    )
    if audit.quantised:
        caption += " Methods are compared on the same weights only; each kind of weights has a stepped line."
    if len(audit.models) > n_models:
        caption += f" {n_models} of {len(audit.models)} models are drawn; the table has all."
    return caption


def by_keep(audit: Audit) -> Figure:
    """Answers kept and accuracy kept over the tokens spent, one column per pair of model and dataset."""
    names = {(m, d): d if len(audit.models) == 1 else f"{d}, {m}" for m, d in audit.pairs[:MAX_PAIRS]}
    figure, shown = _curves(audit, audit.select(by_pair()), names)
    source = how(by_pair(), OF_PAIRS, shown)
    return finish(figure, "fig-keep", _keep_title(audit), _keep_caption(len(audit.pairs)), source, shown)


def of_dataset(audit: Audit, dataset: str, name: str) -> Figure:
    """The same for one dataset, one column per model."""
    query = f"FROM (\n{by_pair()}\n)\nWHERE dataset = {literal(dataset)}"
    rows = audit.select(query)
    pairs = [pair for pair in audit.pairs if pair[1] == dataset]
    figure, shown = _curves(audit, rows, {pair: pair[0] for pair in pairs[:MAX_PAIRS]})
    title = f"On {dataset}, {_course(audit, rows)}."
    return finish(figure, name, title, _keep_caption(len(pairs)), how(query, OF_PAIRS, shown), shown)


def _curves(audit: Audit, rows: list[Row], names: dict[tuple[str, str], str]) -> tuple[Canvas, list[Row]]:
    """Two panels for each pair of model and dataset, and the rows that are in them."""
    rows = sorted(rows, key=lambda row: place(audit, row))
    shown = [row for row in rows if (row["model"], row["dataset"]) in names and row["share"] is not None]
    columns = min(3, len(names))
    figure, grid = canvas(2 * -(-len(names) // columns), columns, 2.35)
    look = styles(audit.methods, audit.random)
    for at, (pair, name) in enumerate(names.items()):
        top, column = 2 * (at // columns), at % columns
        here = [row for row in shown if (row["model"], row["dataset"]) == pair]
        heading(grid[top][column], name)
        for axes, rate in ((grid[top][column], "agreement"), (grid[top + 1][column], "relative_accuracy")):
            treated = [row for row in here if row["method"] not in BASELINES]
            _lines(audit, treated, axes, rate, look)
            _ticks(treated, axes)
        _floor(here, grid[top][column])
        grid[top + 1][column].axhline(100, color="#999999", linewidth=1)
        grid[top + 1][column].set_xlabel("visual tokens, mean over LLM layers (%)")
    for top in range(0, len(grid), 2):
        grid[top][0].set_ylabel("answers kept (%)")
        grid[top + 1][0].set_ylabel("accuracy kept (%)")
    for at in range(len(names), -(-len(names) // columns) * columns):
        grid[2 * (at // columns)][at % columns].set_axis_off()
        grid[2 * (at // columns) + 1][at % columns].set_axis_off()
    as_picture(grid, 2 * len(shown))
    _legend(audit, figure, [axes for row in grid[::2] for axes in row])
    return figure, shown


def _course(audit: Audit, rows: list[Row]) -> str:
    """From the mildest keep to the harshest, the mean over what ran at both."""
    ends = [keep for keep in audit.keeps if any(row["keep"] == keep for row in rows)]
    ends = [ends[0], ends[-1]] if len(ends) > 1 else []
    known = {
        (row["model"], row["method"], row["keep"]): (row["agreement"], row["relative_accuracy"])
        for row in rows
        if row["keep"] in ends and None not in (row["agreement"], row["relative_accuracy"])
    }
    both = [key[:2] for key in known if key[2] == ends[0] and (*key[:2], ends[1]) in known]
    if not both:
        return "answers kept and accuracy kept, by method and keep"
    (a, b), (c, d) = ([sum(known[(*key, keep)][i] for key in both) / len(both) for i in (0, 1)] for keep in ends)
    return (
        f"from keep {keep_label(ends[0])} to {keep_label(ends[1])}, answers kept go from {percent(a)} to {percent(c)} "
        f"and accuracy kept from {percent(b)} to {percent(d)}, on average over methods that ran at both"
    )


def _keep_caption(n_pairs: int) -> str:
    caption = (
        "Above: agreement with the full model, with 95 % intervals (bootstrap over images, and over seeds where there "
        "are several). Below: accuracy divided by the full model's. Both over the share of visual tokens that the LLM "
        "reads, averaged over its layers (logarithmic). Dotted line: the noise floor."
    )
    if n_pairs > MAX_PAIRS:
        caption += f" The first {MAX_PAIRS} of {n_pairs} pairs of model and dataset are drawn."
    return caption


def _keep_title(audit: Audit) -> str:
    """Both means at the mildest and at the harshest keep, over the methods that have both."""
    columns = ("agreement", "relative_accuracy")
    known = {keep: [row for row in audit.at(keep) if None not in (row[c] for c in columns)] for keep in audit.keeps}
    keeps = [keep for keep in audit.keeps if known[keep]]
    ends = keeps[:1] + keeps[-1:]
    both = set.intersection(*({row["method"] for row in known[keep]} for keep in ends)) if len(keeps) > 1 else set()
    if not both:
        return "Answers kept and accuracy kept, by method and keep."
    (a, b), (c, d) = (
        [sum(row[column] for row in known[keep] if row["method"] in both) / len(both) for column in columns]
        for keep in ends
    )
    return (
        f"From keep {keep_label(ends[0])} to {keep_label(ends[1])}, answers kept go from {percent(a)} to {percent(c)} "
        f"and accuracy kept from {percent(b)} to {percent(d)}, on average over {count(len(both), 'method')}."
    )


def _lines(audit: Audit, rows: list[Row], axes: Axes, column: str, look: dict[str, Style]) -> None:
    """One line per method, over its shares of tokens."""
    for group in groups([row for row in rows if row[column] is not None], ("method",)):
        ordered = sorted(group, key=lambda row: float(row["share"]))
        method = group[0]["method"]
        line(axes, ordered, [100 * row["share"] for row in ordered], column, look[method], audit.label(method))


def _floor(rows: list[Row], axes: Axes) -> None:
    """The noise floor, where it was measured."""
    for row in rows:
        if row["method"] == FLOOR and row["agreement"] is not None:
            floor_line(axes, row["agreement"])


def _ticks(rows: list[Row], axes: Axes) -> None:
    """A logarithmic axis with a tick at every keep, where there is room for it."""
    asked = {row["keep_ratio"] for row in rows} - {None}
    shares = sorted(100 * value for value in asked or {row["share"] for row in rows})
    ticks: list[float] = []
    for value in shares:
        if not ticks or value > APART * ticks[-1]:
            ticks.append(value)
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    axes.minorticks_off()


def _legend(audit: Audit, figure: Canvas, panels: list[Axes]) -> None:
    """Of the panel that has most methods: no panel need have all."""
    legend(figure, max(panels, key=lambda axes: len(axes.get_legend_handles_labels()[1])))
