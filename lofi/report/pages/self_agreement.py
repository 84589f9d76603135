"""Self-agreement: how much of what each method keeps survives rounded or noised features, the worst first."""

from markupsafe import Markup

from lofi.report.audit import Audit, groups, over_datasets
from lofi.report.drawing import Figure, canvas, finish, legend
from lofi.report.how import How
from lofi.report.page import Block, Finding, Page, Prose
from lofi.report.tables import METHOD, Column, Table, share, table, whole
from lofi.report.words import NONE, count, keep_name, listing, percent
from lofi.tables import Row

VARIANTS = {"bfloat16": "bfloat16", "float16": "float16", "noise": "1e-6 noise"}  # as stored, as shown
STEADY = 0.98
NAMED = 5  # methods named in one sentence
QUERY = "SELECT * FROM stability ORDER BY model, dataset, method, keep, variant"
MADE_BY = (
    *("stats/kept_sets.sql", "stats/stability.sql", "stats/self_agreement.py:intervals"),
    "report/audit.py:over_datasets",
)
MARKS = {"bfloat16": ("#0a6ebd", "o"), "float16": ("#c1361b", "s"), "noise": ("#333333", "^")}
NOT_MEASURED = Markup(
    '<p class="fine">Self-agreement was not measured: the config key <code>stability_images</code> says on how many '
    "images of each dataset it is, and 0 switches it off.</p>"
)
HOW_TO_READ = Markup(
    "<p>How to read it: the same float32 model encodes the first images of each dataset, its features are rounded to "
    "bfloat16 or float16, or given a relative noise of 1e-6, before a method sees them, and what it keeps then is "
    "compared with what it keeps without that; for methods inside the LLM the visual embeddings are rounded where "
    "they enter the LLM. Each number is the mean over models, datasets, keeps and seeds.</p>"
)


def pages(audit: Audit) -> list[Page]:
    """One page; where nothing was measured it says so."""
    rows = method_rows(audit)
    if not rows:
        return [Page("self-agreement", "Self-agreement", [Prose(NOT_MEASURED)])]
    blocks: list[Block] = [lead(rows), _figure(audit, rows), Prose(HOW_TO_READ), _table(rows)]
    return [Page("self-agreement", "Self-agreement", blocks, terms=("self-agreement", "worst-keep"))]


def _how(rows: list[Row]) -> How:
    images = max(row["n_images"] for row in rows)
    return How(QUERY, MADE_BY, f"n = {count(images, 'image')} at most for one method; in each row its own")


def _figure(audit: Audit, rows: list[Row]) -> Figure:
    """One line per method, one mark per change of the features."""
    figure, [[axes]] = canvas(1, 1, 1.2 + 0.26 * len(rows))
    for place, (variant, label) in enumerate(VARIANTS.items()):
        found = [(i + 0.22 * (place - 1), row) for i, row in enumerate(rows) if row[variant] is not None]
        colour, marker = MARKS[variant]
        y = [at for at, _ in found]
        axes.plot([100 * row[variant] for _, row in found], y, marker, color=colour, markersize=5, label=label)
        known = [(at, row) for at, row in found if row[f"{variant}_low"] is not None]
        ends = ([100 * row[f"{variant}_{end}"] for _, row in known] for end in ("low", "high"))
        axes.hlines([at for at, _ in known], *ends, color=colour, linewidth=1, alpha=0.6)
    axes.set_yticks(range(len(rows)), [audit.label(row["method"]) for row in rows], parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel("kept tokens that are kept under changed features too (%)")
    legend(figure, axes)
    caption = (
        "One line per method, the worst under bfloat16 at the top; one mark for each change of the features, the mean "
        "over models, datasets, keeps and seeds. Bars: 95 % intervals from a bootstrap over images."
    )
    return finish(figure, "fig-stability", _title(rows), caption, _how(rows), [_flat(row) for row in rows])


def _title(rows: list[Row]) -> str:
    known = [row["bfloat16"] for row in rows if row["bfloat16"] is not None]
    if not known:
        return "No method could be compared under bfloat16"
    if min(known) == max(known):
        return f"Under bfloat16 every method keeps {percent(min(known))} of its tokens"
    return f"Under bfloat16 methods keep from {percent(min(known))} to {percent(max(known))} of their tokens"


def _flat(row: Row) -> Row:
    """The numbers of one method, without what is text for a table."""
    return {column: value for column, value in row.items() if column != "worst_keep"}


def method_rows(audit: Audit) -> list[Row]:
    """One row per method, the mean over models, datasets and keeps, the worst under bfloat16 first."""
    rows = [_method_row(group) for group in groups(audit.stability, ("method",))]

    def rank(row: Row) -> tuple[object, ...]:
        found = [row[variant] for variant in VARIANTS]
        return (*((2.0 if value is None else value) for value in found), row["method"])

    return sorted(rows, key=rank)


def _method_row(rows: list[Row]) -> Row:
    """`{variant}` with its interval, `same_{variant}`, the worst keep and image, and how many were compared."""
    merged: Row = {"method": rows[0]["method"]}
    at_keeps: list[Row] = []
    for variant in VARIANTS:
        mine = [row for row in rows if row["variant"] == variant]
        mean = over_datasets(mine, ("method",)) if mine else {}
        merged |= {f"{variant}{end}": mean.get(f"overlap{end}") for end in ("", "_low", "_high")}
        merged[f"same_{variant}"] = mean.get("identical")
        at_keeps += [over_datasets(group, ("variant", "keep")) for group in groups(mine, ("keep",))]
    known = [row for row in at_keeps if row["overlap"] is not None]
    merged["worst_keep"] = min(known, key=lambda row: float(row["overlap"]), default=None)
    merged["worst"] = min((row["worst"] for row in rows if row["worst"] is not None), default=None)
    merged["n_images"] = sum(max(row["n_images"] for row in group) for group in groups(rows, ("dataset",)))
    merged["n_errors"] = sum(row["n_errors"] for row in rows)
    return merged


def _worst_keep(row: Row) -> str:
    if (worst := row["worst_keep"]) is None:
        return NONE
    if worst["overlap"] == 1:
        return percent(1)
    return f"{percent(worst['overlap'])} ({VARIANTS[worst['variant']]}, {keep_name(worst['keep'])})"


COLUMNS = (
    METHOD,
    *(share(label, variant, "self-agreement", bar=variant == "bfloat16") for variant, label in VARIANTS.items()),
    Column("at the worst keep", _worst_keep, lambda row: (row["worst_keep"] or {}).get("overlap"), "worst-keep"),
    share("worst image", "worst", "worst-image"),
    *(share(f"same set, {label}", f"same_{variant}", "same-set") for variant, label in VARIANTS.items()),
    whole("images", "n_images"),
    whole("failed", "n_errors", "failed-comparisons"),
)


def _table(rows: list[Row]) -> Table:
    """What every method keeps of its own choice."""
    caption = "Self-agreement: share of the kept tokens that are kept under changed features too, the worst first"
    return table("stability", caption, COLUMNS, rows, how=_how(rows))


def lead(rows: list[Row]) -> Finding:
    """Who is least steady under bfloat16, and who cannot bear noise."""
    measured = [row for row in rows if row["bfloat16"] is not None]
    if not measured:
        return Finding("Self-agreement is undefined.", "No method has an image on which every comparison ran.")
    return Finding(_under_bfloat16(measured), _under_noise(rows), _how(rows))


def _under_bfloat16(rows: list[Row]) -> str:
    least, methods = rows[0], count(len(rows), "method")
    steady = sum(row["bfloat16"] >= STEADY for row in rows)
    if least["bfloat16"] == 1:
        return f"Rounding features to bfloat16 changes no token that is kept, by any of {methods}."
    if steady == len(rows):
        return (
            f"Every method keeps at least {percent(STEADY, 0)} of its tokens when features are rounded to bfloat16; "
            f"the least is {least['method']} with {percent(least['bfloat16'])}."
        )
    return (
        f"At the worst, {least['method']} keeps only {percent(least['bfloat16'])} of its tokens when features are "
        f"rounded to bfloat16; {steady} of {methods} {'keeps' if steady == 1 else 'keep'} at least "
        f"{percent(STEADY, 0)}."
    )


def _under_noise(rows: list[Row]) -> str:
    """A method that float32 rounding itself could move: on another machine it may keep other tokens."""
    measured = [row for row in rows if row["noise"] is not None]
    loud = sorted((row for row in measured if row["noise"] < STEADY), key=lambda row: row["noise"])
    if not measured:
        return "Under noise no method could be compared."
    if not loud:
        return f"Under a relative noise of 1e-6 every method keeps at least {percent(STEADY, 0)} of its tokens."
    names = [f"{row['method']} ({percent(row['noise'])})" for row in loud[:NAMED]]
    if len(loud) > NAMED:
        names.append(f"{len(loud) - NAMED} more")
    whose = "its" if len(loud) == 1 else "their"
    return (
        f"A relative noise of 1e-6 is enough to make {listing(names)} keep less than {percent(STEADY, 0)} of {whose} "
        "tokens: on another machine or in another batch, other tokens may be kept."
    )
