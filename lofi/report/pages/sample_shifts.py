"""Single answers: whether the shift of a sample's spectrum tells, beyond the margin, that its answer changes."""

from collections.abc import Sequence

from markupsafe import Markup

from lofi.report.audit import Audit
from lofi.report.drawing import Figure, canvas, finish, legend
from lofi.report.how import How
from lofi.report.page import Block, Finding, Fold, Page, Prose
from lofi.report.spectral import FORM, NOTE, SITE, STATISTIC, TOKENS, noted, probability
from lofi.report.tables import KEEP, METHOD, MODEL, Table, decimal, estimate, table, text, whole
from lofi.report.words import count, number, number_interval, p_value
from lofi.tables import Row

MAX_PAIRS = 24
MOST_CELLS = 400
LEVEL = 0.05
BY_MARGIN, BY_BOTH = "#8a8a8a", "#0173b2"
MADE_BY = ("stats/beyond_margin.py", "stats/samplewise.py", "stats/shifts.py")
GAINS = """\
SELECT
    scope, model, dataset, n_cells, n, n_changed, auroc_margin, auroc_both, gain, gain_low, gain_high, note
FROM beyond_margin
WHERE scope <> 'cell'
ORDER BY scope, model, dataset"""
CELLS = """\
SELECT model, dataset, method, keep, seed, n, n_changed, auroc_margin, auroc_both, gain, gain_low, gain_high, note
FROM beyond_margin
WHERE scope = 'cell'
ORDER BY abs(gain) DESC NULLS LAST, model, dataset, method, keep, seed"""
SHIFTS = """\
SELECT
    site, tokens, centred, statistic, sample_shifts.primary, n_cells, n_samples, spearman, spearman_low, spearman_high,
    n_cells_told, n_changed, auroc, auroc_low, auroc_high, z, p, p_adjusted
FROM sample_shifts
ORDER BY sample_shifts.primary DESC, p NULLS LAST, site, tokens, centred, statistic"""
WHAT = Prose(Markup(
    "<p>Correlations of cells say nothing about single answers. Here the question is asked inside each cell, of its "
    "samples: does the absolute shift of ln <a href='#def-ipr-u'>IPR_U</a> (visual tokens after the projector, "
    "centred) tell which answers change, and more than the <a href='#def-margin'>margin</a> of the full model tells "
    "without it? <a href='#def-auroc'>AUROC</a> 0.5 is chance, 1 is certainty.</p>"
))  # fmt: skip
GAIN = (
    whole("cells", "n_cells"),
    whole("n", "n", "n"),
    whole("changed", "n_changed"),
    decimal("AUROC by margin", "auroc_margin", "auroc", 3),
    decimal("AUROC by margin and shift", "auroc_both", "auroc", 3),
    estimate("gain", "gain", "gain", 3),
    NOTE,
)


def pages(audit: Audit) -> list[Page]:
    """One page; where nothing can be told it says why."""
    gains, shifts = audit.select(GAINS), audit.select(SHIFTS)
    everywhere = next((row for row in gains if row["scope"] == "all"), None)
    declared = next((row for row in shifts if row["primary"]), None)
    blocks: list[Block] = [finding(everywhere, declared), WHAT]
    if drawn := by_pair(gains):
        blocks.append(drawn)
    if gains:
        caption = "What the shift adds to the margin, by (model, dataset): means over the cells that can be told"
        columns = noted((text("model", "model"), text("dataset", "dataset"), *GAIN), gains)
        named = [_named(row) for row in gains]
        blocks.append(table("gains", caption, columns, named, how=_how(GAINS, gains[:1])))
    if cells := audit.select(CELLS):
        axes = (MODEL, text("dataset", "dataset"), METHOD, KEEP, whole("seed", "seed"))
        caption, columns = "Each cell, the largest gain or loss first", noted((*axes, *GAIN[1:]), cells)
        shown = table("gains-cells", caption, columns, cells, MOST_CELLS, _how(CELLS, cells))
        blocks.append(Fold("Cell by cell", [shown]))
    if shifts:
        blocks.append(Fold("Every other shift of single samples", [shift_table(shifts)]))
    title = "IPR and single answers"
    return [Page("ipr-samples", title, blocks, "Spectra", terms=("auroc", "gain", "margin"))]


def _how(sql: str, rows: Sequence[Row]) -> How:
    n, changed = (sum(row[name] or 0 for row in rows) for name in ("n", "n_changed"))
    return How(sql, MADE_BY, f"n = {count(n, 'answer')}, of which {count(changed)} changed")


def finding(everywhere: Row | None, declared: Row | None) -> Finding:
    """Whether the declared shift adds to the margin, for whatever outcome the data has."""
    if everywhere is None:
        return Finding(
            "Single answers cannot be looked at.",
            "No spectra after the projector were stored for both a reduced cell and the full one.",
        )
    if everywhere["gain"] is None:
        return Finding("Whether the shift tells which answers change is undecided.", f"{_first(everywhere['note'])}.")
    low, high = everywhere["gain_low"], everywhere["gain_high"]
    if low > 0:
        gain, margin = (number(everywhere[name], 3) for name in ("gain", "auroc_margin"))
        headline = f"The shift of a sample's IPR adds {gain} to the AUROC of {margin} that the full model's margin has."
    elif high < 0:
        headline = "Adding the shift of a sample's IPR to the full model's margin makes the forecast of changes worse."
    else:
        headline = "The shift of a sample's IPR adds nothing to the full model's margin that these answers can show."
    detail = (
        f"AUROC of a changed answer, out of sample: {number(everywhere['auroc_margin'], 3)} by the margin, "
        f"{number(everywhere['auroc_both'], 3)} by margin and shift, a gain of {number(everywhere['gain'], 3)} "
        f"{number_interval(low, high, 3)} (mean over {count(everywhere['n_cells'], 'cell')}, "
        f"{count(everywhere['n'], 'answer')}, {count(everywhere['n_changed'])} changed)."
    )
    return Finding(headline, detail + _alone(declared))


def _first(note: str) -> str:
    return note[:1].upper() + note[1:]


def _alone(declared: Row | None) -> str:
    """What the shift tells by itself, and at an equal margin."""
    if declared is None or declared["auroc"] is None:
        return ""
    words = f" By itself the absolute shift has AUROC {number(declared['auroc'], 3)}{_range(declared, 'auroc')}"
    if declared["z"] is not None:
        more = "more" if declared["z"] > 0 else "less"
        said = f"samples that shift more change {more} often" if declared["p"] < LEVEL else "it tells nothing"
        words += f"; at an equal margin {said} (score test, z = {number(declared['z'], 1)}, {p_value(declared['p'])})"
    if declared["spearman"] is not None:
        words += (
            f". The signed shift and the KL from full to reduced have Spearman ρ = {number(declared['spearman'])}"
            f"{_range(declared, 'spearman', 2)} inside cells ({count(declared['n_cells'], 'cell')})"
        )
    return words + "."


def _range(row: Row, name: str, digits: int = 3) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "" if low is None or high is None else f" {number_interval(low, high, digits)}"


def _named(row: Row) -> Row:
    return row | {name: row[name] or "all" for name in ("model", "dataset")}


def by_pair(gains: Sequence[Row]) -> Figure | None:
    """AUROC with and without the shift, and their difference with its interval; None where there is no gain."""
    known = [row for row in gains if row["gain"] is not None]
    if not known:
        return None
    drawn = known[: MAX_PAIRS + 1]
    names = ["all" if row["scope"] == "all" else f"{row['model']}, {row['dataset']}" for row in drawn]
    places = range(len(drawn))
    figure, [[left, right]] = canvas(1, 2, 1.3 + 0.27 * len(drawn), sharey=True)
    for column, colour, marker, label in (
        ("auroc_margin", BY_MARGIN, "o", "by the full model's margin"),
        ("auroc_both", BY_BOTH, "D", "by margin and shift"),
    ):
        values = [row[column] for row in drawn]
        left.plot(values, places, marker, color=colour, markersize=5.5, label=label)
    for place, row in enumerate(drawn):
        left.plot([row["auroc_margin"], row["auroc_both"]], [place, place], color="#b5b5b5", linewidth=1, zorder=0)
    left.axvline(0.5, color="#8a8a8a", linewidth=1, linestyle=(0, (1, 1)))
    left.set_xlabel("AUROC of a changed answer (dotted: chance)")
    left.set_yticks(places, names, parse_math=False)
    left.set_ylim(len(drawn) - 0.5, -0.5)
    right.axvline(0, color="#8a8a8a", linewidth=1)
    right.hlines(places, [row["gain_low"] for row in drawn], [row["gain_high"] for row in drawn], color=BY_BOTH)
    right.plot([row["gain"] for row in drawn], places, "D", color=BY_BOTH, markersize=5.5)
    right.set_xlabel("gain in AUROC, 95 % interval")
    legend(figure, left)
    caption = (
        "Left: how often a changed answer is ranked above one that stayed, by a logistic regression on the rank of the "
        "full model's margin, without and with the rank of the absolute shift of ln IPR_U; five-fold cross-validation "
        "over whole images, mean over the cells in which at least 10 answers changed and 10 stayed. Right: the "
        "difference, with an interval over images."
    )
    if len(known) > len(drawn):
        caption += f" {count(len(known) - len(drawn), 'more pair')} of model and dataset in the table."
    return finish(figure, "fig-gain", _gain_title(known), caption, _how(GAINS, gains[:1]), drawn)


def _gain_title(known: Sequence[Row]) -> str:
    pairs = [row for row in known if row["scope"] != "all"]
    more, less = sum(row["gain_low"] > 0 for row in pairs), sum(row["gain_high"] < 0 for row in pairs)
    return (
        f"The shift adds to the margin on {count(more)} of {count(len(pairs), 'pair')} of model and dataset, takes "
        f"away on {count(less)}, and on {count(len(pairs) - more - less)} neither can be told from chance."
    )


def shift_table(rows: Sequence[Row]) -> Table:
    """One row per site, token set, form and statistic, the declared one first."""
    columns = (
        *(STATISTIC, SITE, TOKENS, FORM),
        estimate("Spearman ρ with KL", "spearman", "sample-spearman"),
        whole("cells", "n_cells"),
        whole("samples", "n_samples"),
        estimate("AUROC alone", "auroc", "auroc", 3),
        whole("cells told", "n_cells_told", "auroc"),
        whole("changed", "n_changed"),
        decimal("z at equal margin", "z", "equal-margin"),
        probability("p", "p", "equal-margin"),
        probability("p adjusted", "p_adjusted", "p-adjusted"),
    )
    samples, cells = (max(row[name] for row in rows) for name in ("n_samples", "n_cells"))
    n = f"n = {count(samples, 'sample')} in {count(cells, 'cell')}"
    caption = "Every shift of single samples; marked: declared before looking"
    return table("sample-shifts", caption, columns, list(rows), how=How(SHIFTS, MADE_BY, f"{n} at most"))
