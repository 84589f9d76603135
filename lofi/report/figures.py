"""The figures: each with a sentence as its title and a caption that says how it was computed."""

from matplotlib.axes import Axes

from lofi.cell import FLOOR, KEEP_ALL, OWN_COUNT
from lofi.report.audit import Audit, groups, spectral_column, token_share
from lofi.report.drawing import Figure, Style, canvas, finish, heading, legend, line, styles
from lofi.report.words import correlation, count, keep_label, number, p_value, percent
from lofi.tables import Row

MAX_PAIRS = 12
MAX_KEEPS = 4
MAX_VECTORS = 1500  # more points than this are drawn as a picture inside the drawing
FLIPS = (  # column, name, colour, hatch
    ("neg_flip", "lost (negative flip)", "#c1361b", ""),
    ("pos_flip", "gained (positive flip)", "#0a6ebd", "////"),
    ("exchanged", "exchanged", "#a3a3a3", "...."),
)
SCOPES = (
    ("within_model_dataset_keep", "within (model, dataset, keep)", ("model", "dataset", "keep")),
    ("within_model_dataset", "within (model, dataset)", ("model", "dataset")),
    ("pooled", "pooled", ()),
)


def kept_against_kept(audit: Audit) -> Figure:
    """Answers kept against accuracy kept: the figure of the answer."""
    figure, [[axes]] = canvas(1, 1, 4.2)
    look = styles(audit.methods, audit.random)
    drawn: list[Row] = []
    for method in audit.methods:
        keeps = (KEEP_ALL, *audit.keeps, OWN_COUNT)
        rows = [audit.overall[method, k] for k in keeps if (method, k) in audit.overall]
        rows = [r for r in rows if r.get("relative_accuracy") is not None and r.get("agreement") is not None]
        rows.sort(key=lambda r: -(token_share(r) or 0.0))
        if rows:
            x = [100 * row["relative_accuracy"] for row in rows]
            line(axes, rows, x, "agreement", look[method], audit.label(method), alpha=0.3)
            axes.plot(x[-1], 100 * rows[-1]["agreement"], "o", ms=11, fillstyle="none", color="#333333")
            drawn += rows
    _diagonal(axes, drawn)
    floor = audit.overall.get((FLOOR, KEEP_ALL), {}).get("agreement")
    if floor is not None:
        _floor_line(axes, floor)
        axes.annotate("noise floor", (0.005, 100 * floor), xycoords=("axes fraction", "data"), xytext=(0, -10),
                      textcoords="offset points", fontsize=8, color="#333333")  # fmt: skip
    axes.set_xlabel("accuracy kept (relative accuracy, % of the full model's)")
    axes.set_ylabel("answers kept (agreement, %)")
    legend(figure, axes)
    caption = (
        "One point per method and keep, the mean over every model and dataset; each line joins the keeps of a "
        "method, and a ring marks its harshest. Below the diagonal, accuracy looks better than the answers are. "
        "Vertical bars: 95 % intervals of agreement."
    )
    return finish(figure, "fig-answer", _answer_title(audit, drawn), caption)


def _answer_title(audit: Audit, drawn: list[Row]) -> str:
    below = sum(row["agreement"] < row["relative_accuracy"] for row in drawn)
    if drawn:
        points = count(len(drawn), "combination")
        return f"In {below} of {points} of method and keep, fewer answers are kept than accuracy is."
    if any(audit.at(keep) for keep in audit.keeps):
        return "Accuracy kept has no mean: on some dataset the full model is never right."
    return "No method was run on every model and dataset, so there is nothing to average."


def _diagonal(axes: Axes, rows: list[Row]) -> None:
    """The line on which as many answers are kept as accuracy, and limits that show every point."""
    x = [100 * row["relative_accuracy"] for row in rows] or [0.0]
    y = [100 * (row.get("agreement_low") or row["agreement"]) for row in rows] or [0.0]
    right, left, bottom = max(101.0, max(x) + 1), min(99.0, min(x) - 2), min(99.0, min(y) - 2)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, 101)
    low = max(left, bottom)
    axes.plot([low, 101], [low, 101], color="#8a8a8a", linewidth=1, zorder=0)
    middle = low + 0.6 * (101 - low)
    axes.annotate("as many answers kept as accuracy", (middle, middle), xytext=(-10, 6), ha="right", va="bottom",
                  textcoords="offset points", fontsize=8, color="#5c5c5c")  # fmt: skip


def _floor_line(axes: Axes, agreement: float) -> None:
    axes.axhline(100 * agreement, color="#333333", linewidth=1, linestyle=(0, (1, 1)))


def by_keep(audit: Audit) -> Figure:
    """Answers kept and accuracy kept over the tokens spent, one column per pair of model and dataset."""
    pairs = audit.pairs[:MAX_PAIRS]
    columns = min(3, len(pairs))
    blocks = -(-len(pairs) // columns)
    figure, grid = canvas(2 * blocks, columns, 2.35)
    look = styles(audit.methods, audit.random)
    for place, pair in enumerate(pairs):
        top = 2 * (place // columns)
        upper, lower = grid[top][place % columns], grid[top + 1][place % columns]
        heading(upper, pair[1] if len(audit.models) == 1 else f"{pair[1]}, {pair[0]}")
        _pair(audit, pair, upper, "agreement", look)
        _pair(audit, pair, lower, "relative_accuracy", look)
        lower.set_xlabel("visual tokens, mean over LLM layers (%)")
        if place % columns == 0:
            upper.set_ylabel("answers kept (%)")
            lower.set_ylabel("accuracy kept (%)")
    for place in range(len(pairs), blocks * columns):
        for row in (2 * (place // columns), 2 * (place // columns) + 1):
            grid[row][place % columns].set_axis_off()
    legend(figure, grid[0][0])
    caption = (
        "Above: agreement with the full model, with 95 % intervals (bootstrap over images). Below: accuracy divided by "
        "the full model's. Both over the share of visual tokens that the LLM reads, averaged over its layers "
        "(logarithmic). Dotted line: the noise floor."
    )
    if len(audit.pairs) > MAX_PAIRS:
        caption += f" Only the first {MAX_PAIRS} of {len(audit.pairs)} pairs are drawn; the tables have all."
    return finish(figure, "fig-keep", _keep_title(audit), caption)


def _keep_title(audit: Audit) -> str:
    keeps = [k for k in audit.keeps if audit.at(k)]
    means = {}
    for keep in (keeps[:1] + keeps[-1:]) if keeps else []:
        rows = audit.at(keep)
        if all(r.get(c) is not None for r in rows for c in ("agreement", "relative_accuracy")):
            means[keep] = [sum(r[c] for r in rows) / len(rows) for c in ("agreement", "relative_accuracy")]
    if len(means) < 2:
        return "Answers kept and accuracy kept, by method and keep."
    (mild, (a, b)), (harsh, (c, d)) = means.items()
    return (
        f"From keep {keep_label(mild)} to {keep_label(harsh)}, answers kept go from {percent(a)} to {percent(c)} and "
        f"accuracy kept from {percent(b)} to {percent(d)}, on average over methods."
    )


def _pair(audit: Audit, pair: tuple[str, str], axes: Axes, column: str, look: dict[str, Style]) -> None:
    here = [p for p in audit.points if (p["model"], p["dataset"]) == pair]
    for method in audit.methods:
        rows = [p for p in here if p["method"] == method and p.get(column) is not None and token_share(p)]
        rows.sort(key=lambda p: token_share(p) or 0.0)
        if rows:
            x = [100 * (token_share(p) or 0.0) for p in rows]
            line(axes, rows, x, column, look[method], audit.label(method))
    floor = next((p for p in here if p["method"] == FLOOR), None)
    if column == "agreement" and floor and floor.get(column) is not None:
        _floor_line(axes, floor[column])
    if column == "relative_accuracy":
        axes.axhline(100, color="#999999", linewidth=1)
    axes.set_xscale("log")
    shown = (*audit.keeps, KEEP_ALL) if audit.at(KEEP_ALL) else audit.keeps
    shares: list[float] = sorted({round(100 * (p.get("keep_ratio") or 1), 2) for p in here if p["keep"] in shown})
    if not shares:  # every method sets its own count
        shares = sorted({round(100 * (token_share(p) or 1), 1) for p in here if p["keep"] == OWN_COUNT})
    axes.set_xticks(shares, [f"{share:g}" for share in shares])
    axes.minorticks_off()


def flip_classes(audit: Audit) -> Figure:
    """What became of the changed answers: lost, gained or exchanged."""
    keeps = [keep for keep in audit.keeps if audit.at(keep)]
    shown = [*([KEEP_ALL] if audit.at(KEEP_ALL) else []), *spread(keeps, MAX_KEEPS)]
    columns, names = max(1, len(shown)), [audit.label(method) for method in audit.methods]
    figure, [row] = canvas(1, columns, 0.9 + 0.27 * max(3, len(audit.methods)), sharex=True, sharey=True)
    for axes, keep in zip(row, shown, strict=False):
        rows = {r["method"]: r for r in audit.at(keep) if r.get("neg_flip") is not None}
        left = [0.0] * len(audit.methods)
        for column, label, colour, hatch in FLIPS:
            widths = [100 * (rows.get(m, {}).get(column) or 0.0) for m in audit.methods]
            axes.barh(names, widths, left=left, color=colour, hatch=hatch, label=label, height=0.72)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        heading(axes, f"keep {keep_label(keep)}")
        axes.set_xlabel("share of answers (%)")
        axes.set_ylim(len(audit.methods) - 0.4, -0.6)
    legend(figure, row[0])
    caption = (
        "Share of all answers that changed, by what became of them; the length of a bar is 1 − agreement. Mean "
        "over every model and dataset. Lost: right in full, wrong in reduced. Gained: the reverse. Exchanged: as "
        "right or wrong as before, but another answer."
    )
    if len(keeps) > MAX_KEEPS:
        caption += f" {MAX_KEEPS} of {len(keeps)} keeps are drawn; the table has all."
    if any(cell["keep"] == OWN_COUNT for cell in audit.cells):
        caption += " Methods that set their own count stand in the table only: they share no keep with others."
    return finish(figure, "fig-flips", _flip_title(audit, shown), caption)


def _flip_title(audit: Audit, shown: list[str]) -> str:
    columns = [column for column, *_ in FLIPS]
    rows = [r for r in audit.at(shown[-1]) if all(r.get(c) is not None for c in columns)] if shown else []
    if not rows:
        return "No flip class can be averaged over every model and dataset."
    lost, gained, exchanged = (sum(r[c] for r in rows) / len(rows) for c in columns)
    return (
        f"At keep {keep_label(shown[-1])}, {percent(lost)} of the answers are lost, {percent(gained)} gained and "
        f"{percent(exchanged)} exchanged, on average over methods."
    )


def spread(items: list[str], most: int) -> list[str]:
    """At most so many items, the ends included, evenly spaced."""
    if len(items) <= most:
        return items
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def ipr(audit: Audit) -> Figure | None:
    """Shift of the IPR against agreement in three scopes, the leading one first; None without a primary row."""
    primary = audit.primary("within_model_dataset_keep") or audit.primary("pooled")
    if primary is None:
        return None
    column = spectral_column(primary)
    keeps = (*audit.keeps, OWN_COUNT)
    methods = [method for method in audit.methods if method not in audit.quantised]
    points = [p for p in audit.points if p["method"] in methods and p["keep"] in keeps]
    points = [p for p in points if p.get(column) is not None and p.get("agreement") is not None]
    figure, [row] = canvas(1, 3, 3.5)
    look = styles(audit.methods, audit.random)
    for axes, (scope, name, by) in zip(row, SCOPES, strict=True):
        found = audit.primary(scope) or {}
        drawn = [p for p in points if "keep" not in by or p["keep"] != OWN_COUNT]
        _scatter(axes, methods, drawn, column, by, look)
        heading(axes, f"{name}\n{correlation(found)}\n{p_value(found.get('p'))}", bold=scope == SCOPES[0][0])
        axes.set_xlabel("shift of log IPR_U" + (" − group mean" if by else ""))
        axes.set_ylabel("agreement" + (" − group mean (points)" if by else " (%)"))
    legend(figure, row[0])
    lead, pooled = (audit.primary(s) or {} for s in ("within_model_dataset_keep", "pooled"))
    title = f"At equal model, dataset and keep, {_words(lead)}; pooled over everything, {_words(pooled)}."
    caption = (
        f"One point per model, dataset, method and keep ({count(len(points), 'point')}, mean over seeds): the change "
        "of log IPR_U (visual tokens after the projector, centred by the full run's mean) from full to reduced, "
        "against agreement. In the left and middle panels the mean of each group is subtracted from both axes. Only "
        "the left panel compares methods at the same keep: it is the test of the claim."
    )
    if any(p["keep"] == OWN_COUNT for p in points):
        caption += " Methods that set their own count share no keep with others, so it leaves them out."
    if audit.quantised:
        caption += " Methods on quantised weights are in no panel: their answers change without the visual tokens."
    return finish(figure, "fig-ipr", title, caption)


def _words(row: Row) -> str:
    return f"r = {number(row['pearson'])}" if row.get("pearson") is not None else "r is undefined"


def _scatter(
    axes: Axes, methods: list[str], points: list[Row], column: str, by: tuple[str, ...], look: dict[str, Style]
) -> None:
    centre = {}
    for group in groups(points, by):
        x, y = (sum(p[c] for p in group) / len(group) if by else 0.0 for c in (column, "agreement"))
        centre[tuple(group[0][axis] for axis in by)] = x, y
    for method in methods:
        rows = [p for p in points if p["method"] == method]
        means = [centre[tuple(p[axis] for axis in by)] for p in rows]
        axes.scatter(
            [p[column] - mean[0] for p, mean in zip(rows, means, strict=True)],
            [100 * (p["agreement"] - mean[1]) for p, mean in zip(rows, means, strict=True)],
            s=22, color=look[method].colour, marker=look[method].marker, alpha=0.85, linewidths=0.4,
            edgecolors="white", label=method, rasterized=len(points) > MAX_VECTORS,
        )  # fmt: skip
