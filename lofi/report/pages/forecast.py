"""A cell's agreement told without labels and without comparing answers: how far off, and whether spectra help."""

from collections.abc import Sequence

from markupsafe import Markup

from lofi.report.audit import Audit, groups
from lofi.report.drawing import Figure, canvas, finish, heading, legend, styles
from lofi.report.how import How
from lofi.report.page import Block, Finding, Page, Prose
from lofi.report.spectral import RESAMPLED
from lofi.report.tables import Column, Table, estimate, table, text, whole
from lofi.report.words import count, first_of, listing, number, number_interval
from lofi.tables import Row

MAX_VECTORS = 1500
KEEP = "keep"
DRAWN = (KEEP, "keep + margins + spectra")
SPECTRA = " + spectra"
NAMED = {  # in the sentence; the table has all
    KEEP: "the keep alone",
    "keep + margins": "keep and margins",
    "keep + margins + spectra": "keep, margins and spectra",
    "keep + method": "keep and the name of the method",
}
MADE_BY = ("stats/forecast.sql", "stats/forecast.py", "stats/ridge.py")
# Errors in points of agreement.
ERRORS = """\
SELECT
    split, features, baseline, n_cells, n_groups,
    100 * error AS error, 100 * low AS error_low, 100 * high AS error_high,
    100 * difference AS difference, 100 * difference_low AS difference_low, 100 * difference_high AS difference_high,
    verdict, resampled, note
FROM forecast
ORDER BY error IS NULL, list_position(['dataset', 'model', 'method'], split), length(features), features, baseline"""
CELLS = """\
SELECT split, features, model, dataset, method, keep, n, agreement, predicted
FROM forecast_cells
WHERE features IN ('keep', 'keep + margins + spectra')
ORDER BY list_position(['dataset', 'model', 'method'], split), features, model, dataset, method, keep"""
WHAT = Prose(Markup(
    "<p>Can a cell's agreement be told before any answer is compared? A regression is fitted to other cells and "
    "predicts those of a dataset, model or method that it never saw. It may read the keep, the "
    "<a href='#def-margin'>margins</a> of the full model on the data in question, and the shifts of the spectra there; "
    "no right answer and no comparison of answers (<a href='#def-features'>features</a>, "
    "<a href='#def-forecast-error'>error</a>).</p>"
))  # fmt: skip


def _says(row: Row) -> str:
    """The verdict, or why there is none."""
    return str(row["verdict"] or row["note"] or "")


COLUMNS = (
    text("held out", "split", "forecast-split"),
    text("features", "features", "features"),
    estimate("error (points)", "error", "forecast-error"),
    text("compared with", "against", "forecast-difference"),
    estimate("difference (points)", "difference", "forecast-difference"),
    whole("cells", "n_cells"),
    whole("groups", "n_groups", "forecast-split"),
    RESAMPLED,
    Column("what it says", _says, _says, numeric=False),
)


def pages(audit: Audit) -> list[Page]:
    """One page; where nothing can be held out it says why."""
    rows = audit.select(ERRORS)
    blocks: list[Block] = [finding(rows), WHAT]
    if drawn := predicted(audit, rows):
        blocks.append(drawn)
    if rows:
        blocks.append(error_table(rows))
    return [Page("forecast", "Forecast without labels", blocks, "Spectra", terms=("features", "forecast-error"))]


def finding(rows: Sequence[Row]) -> Finding:
    """Whether the spectra make the forecast better, for whatever outcome the data has."""
    known = [row for row in rows if row["error"] is not None]
    if not known:
        notes = list(dict.fromkeys(row["note"] for row in rows if row["note"]))
        why = "; ".join(notes) if notes else "the sweep has no pruned cells"
        return Finding("No forecast can be tested on this sweep.", f"{why[:1].upper()}{why[1:]}.")
    tried = [row for row in known if adds_spectra(row)]
    errors = " ".join(_errors(group) for group in groups(known, ("split",)))
    if not tried:
        note = next((row["note"] for row in rows if adds_spectra(row) and row["note"]), "no spectra are stored")
        return Finding("Whether spectra help to forecast agreement cannot be tested.", f"{_upper(note)}. {errors}")
    better = [row for row in tried if row["difference_high"] < 0]
    worse = [row for row in tried if row["difference_low"] > 0]
    if not better and not worse:
        headline = "The spectra add nothing to the forecast of agreement that these cells can show."
    elif not better:
        headline = "The spectra add nothing to the forecast of agreement; they make it worse where they matter."
    elif len(better) == len(tried):
        headline = "The spectra make the forecast of agreement better in every comparison."
    else:
        headline = f"The spectra make the forecast of agreement better in {len(better)} of {len(tried)} comparisons"
        headline += f" and worse in {len(worse)}." if worse else "."
    return Finding(headline, errors + " " + _comparisons(better, worse, tried))


def _upper(words: str) -> str:
    return words[:1].upper() + words[1:]


def adds_spectra(row: Row) -> bool:
    """Whether the row's features differ from its baseline in the spectra alone."""
    return bool(row["features"] == f"{row['baseline']}{SPECTRA}")


def _errors(group: Sequence[Row]) -> str:
    """What each set of features is off by, on one thing that was held out."""
    by_name = {row["features"]: row for row in group}
    listed = [
        f"{number(by_name[name]['error'], 1)} "
        f"{number_interval(by_name[name]['error_low'], by_name[name]['error_high'], 1)} from {words}"
        for name, words in NAMED.items()
        if name in by_name
    ]
    first = group[0]
    return (
        f"On a {first['split']} never seen, the forecast is off by {listing(listed)} (mean absolute error in points, "
        f"{count(first['n_cells'], 'cell')}, {count(first['n_groups'], first['split'])})."
    )


def _comparisons(better: Sequence[Row], worse: Sequence[Row], tried: Sequence[Row]) -> str:
    """Where the spectra alone are what is added."""
    parts = [
        f"lower the error beside {first_of([_where(row) for row in better], 3)}" if better else "",
        f"raise it beside {first_of([_where(row) for row in worse], 3)}" if worse else "",
    ]
    found = " and ".join(part for part in parts if part) or "move the error by no more than chance may"
    return f"Of {count(len(tried), 'comparison')} that add the spectra and nothing else, they {found}."


def _where(row: Row) -> str:
    return f"{row['baseline']} ({row['split']} held out)"


def error_table(rows: Sequence[Row]) -> Table:
    """Every set of features on everything that was held out."""
    named = [row | {"against": "" if row["features"] == row["baseline"] else row["baseline"]} for row in rows]
    caption = "How far each forecast is off, and how much farther than the one it is compared with (below 0: nearer)"
    n = f"n = {count(max(row['n_cells'] for row in rows), 'cell')}, seeds averaged"
    return table("forecasts", caption, COLUMNS, named, how=How(ERRORS, MADE_BY, n))


def predicted(audit: Audit, rows: Sequence[Row]) -> Figure | None:
    """Predicted against measured agreement of cells that were held out; None where nothing was."""
    cells = audit.select(CELLS)
    if not cells:
        return None
    splits = [group[0]["split"] for group in groups(cells, ("split",))]
    features = [name for name in DRAWN if any(cell["features"] == name for cell in cells)]
    figure, grid = canvas(len(splits), len(features), 3.1, sharex=True, sharey=True)
    look = styles(audit.methods, audit.random)
    errors = {(row["split"], row["features"]): row["error"] for row in rows}
    low = 100 * min(min(cell["agreement"], cell["predicted"]) for cell in cells) - 2
    for split, line in zip(splits, grid, strict=True):
        for name, axes in zip(features, line, strict=True):
            here = [cell for cell in cells if (cell["split"], cell["features"]) == (split, name)]
            axes.plot([low, 101], [low, 101], color="#8a8a8a", linewidth=1, zorder=0)
            for method in audit.methods:
                of = [cell for cell in here if cell["method"] == method]
                if of:
                    axes.scatter(
                        [100 * cell["predicted"] for cell in of], [100 * cell["agreement"] for cell in of],
                        s=20, color=look[method].colour, marker=look[method].marker, alpha=0.85, linewidths=0.4,
                        edgecolors="white", label=method, rasterized=len(cells) > MAX_VECTORS,
                    )  # fmt: skip
            heading(axes, f"{split} held out, from {name}\nerror {number(errors.get((split, name)))} points")
        line[0].set_ylabel("measured agreement (%)")
    for axes in grid[-1]:
        axes.set_xlabel("predicted agreement (%)")
    legend(figure, grid[0][0])
    answers = sum(cell["n"] for cell in cells if (cell["split"], cell["features"]) == (splits[0], features[0]))
    n = f"n = {count(len(cells) // (len(splits) * len(features)), 'cell')} a panel, {count(answers, 'answer')}"
    return finish(figure, "fig-forecast", _title(rows), _caption(), How(CELLS, MADE_BY, n), cells)


def _title(rows: Sequence[Row]) -> str:
    parts = []
    for group in groups([row for row in rows if row["error"] is not None], ("split",)):
        errors = {row["features"]: number(row["error"], 1) for row in group}
        if all(name in errors for name in DRAWN):
            both = " to ".join(errors[name] for name in DRAWN)
            parts.append(f"from {both} points on {group[0]['split']}s never seen")
        elif KEEP in errors:
            parts.append(f"at {errors[KEEP]} points on {group[0]['split']}s never seen, from the keep alone")
    return f"With margins and spectra beside the keep, the error goes {listing(parts)}."


def _caption() -> str:
    return (
        "One point per model, dataset, method and keep, the mean over seeds, predicted when its dataset, model or "
        "method was held out. Left: from the keep alone; right: from the keep, the full model's margins and the shifts "
        "of the spectra. On the line, the forecast is right. A method that keeps nearly the tokens of another is not "
        "new to the forecast while that one is not held out."
    )
