"""One page per dataset: what is kept of its answers, by method, by benchmark figure and by category."""

import re

from markupsafe import Markup

from lofi.cell import FLOOR, FULL
from lofi.report.audit import Audit, groups, mean_row
from lofi.report.benchmarks import benchmarks
from lofi.report.categories import categories, drawing, method_table, summary_table
from lofi.report.curves import of_dataset
from lofi.report.differences import difference_table
from lofi.report.how import How
from lofi.report.measured import place
from lofi.report.page import Block, Finding, Fold, Listing, Page, Prose
from lofi.report.pages.provenance import ASKED, SETTINGS
from lofi.report.sentences import mid_keep
from lofi.report.tables import KEPT, MOST, Table, table, telling
from lofi.report.words import NONE, count, keep_phrase, percent, points, share_with_interval
from lofi.tables import Row, literal

MADE_BY = ("stats/methods.sql", "stats/cells.sql", "stats/intervals.py:of_methods")
NAMED = 4  # models named in a finding
N = "n: answers, each sample counted in every seed"


def kept(dataset: str) -> str:
    """The SELECT of every method and keep on one dataset, over all seeds."""
    means = ",\n    ".join(
        f"CASE WHEN count({column}) = count(*) THEN avg({column} ORDER BY seed) END AS {column}"
        for column in ("relative_accuracy", "divergence_excess", "keep_ratio", "kept_tokens", "layer_mean_tokens")
    )
    return f"""\
SELECT model, dataset, method, methods.weights, keep, n_seeds, methods.n, methods.n_graded,
    methods.agreement, methods.agreement_low, methods.agreement_high,
    methods.accuracy, methods.accuracy_low, methods.accuracy_high,
    {means},
    min(kept_tokens_min) AS kept_tokens_min, max(kept_tokens_max) AS kept_tokens_max, sum(n_errors)::BIGINT AS n_errors
FROM methods JOIN cells USING (model, dataset, method, keep)
WHERE dataset = {literal(dataset)}
GROUP BY ALL
ORDER BY model, method, keep"""


def pages(audit: Audit) -> list[Page]:
    """A page for each dataset, in the order of the report."""
    most = max(60, MOST // max(1, len(audit.datasets)))
    return [_page(audit, dataset, name, most) for dataset, name in names(audit.datasets).items()]


def names(datasets: tuple[str, ...]) -> dict[str, str]:
    """Each dataset's own anchor, made of the letters and digits of its name."""
    found: dict[str, str] = {}
    for dataset in datasets:
        slug = "dataset-" + (re.sub(r"[^a-z0-9]+", "-", dataset.lower()).strip("-") or "unnamed")
        taken = sum(name == slug or name.startswith(f"{slug}--") for name in found.values())
        found[dataset] = f"{slug}--{taken + 1}" if taken else slug
    return found


def _page(audit: Audit, dataset: str, name: str, most: int) -> Page:
    rows = sorted(audit.select(kept(dataset)), key=lambda row: place(audit, row))
    keep = _keep(audit, rows)
    blocks: list[Block] = [
        _finding(audit, dataset, rows, keep),
        of_dataset(audit, dataset, f"{name}-keep"),
        _kept_table(audit, dataset, rows, name, most),
        *_figures(audit, dataset, name, most),
        *(_categories(audit, dataset, keep, name, most) if keep else []),
        *(_differences(audit, dataset, keep, name, most) if keep else []),
        _asked(audit, dataset),
    ]
    return Page(name, dataset, blocks, group="Datasets", terms=("agreement", "relative-accuracy"))


def _keep(audit: Audit, rows: list[Row]) -> str | None:
    """The middle keep of the report if the dataset has it, else the one of most methods."""
    here = [row["keep"] for row in rows if row["method"] in audit.methods and row["keep"] in audit.keeps]
    middle = mid_keep(audit)
    return middle if middle in here else max(dict.fromkeys(here), key=here.count, default=None)


def _finding(audit: Audit, dataset: str, rows: list[Row], keep: str | None) -> Finding:
    """What the middle keep changes on average, who keeps most and fewest, and from where the full model starts."""
    how = How(kept(dataset), MADE_BY, N)
    models = {row["model"] for row in rows}
    treated = [row for row in rows if row["keep"] == keep and row["method"] in audit.methods]
    found = [
        mean_row(group, ("method",))
        for group in groups([row for row in treated if row["agreement"] is not None], ("method",))
        if len(group) == len(models)
    ]
    if not found or keep is None:
        headline = f"On {dataset} no method ran with every model at one keep below all tokens, so there is no mean."
        return Finding(headline, _starts(rows), how)
    headline = (
        f"On {dataset}, keeping {keep_phrase(keep)} changes {percent(1 - _mean(found, 'agreement'))} of the answers"
    )
    graded = [row for row in found if row["accuracy"] is not None]
    full = [row for row in rows if row["method"] == FULL and row["accuracy"] is not None]
    if len(graded) == len(found) and len(full) == len(models):
        headline += f" and moves accuracy by {points(_mean(graded, 'accuracy') - _mean(full, 'accuracy'))}"
    ordered = sorted(found, key=lambda row: -row["agreement"])
    ends = {"Most answers are kept by": ordered[0], "fewest by": ordered[-1]} if len(ordered) > 1 else {}
    named = [f"{who} {audit.label(r['method'])}: {share_with_interval(r, 'agreement')}" for who, r in ends.items()]
    detail = f"Mean of {count(len(found), 'method')} and {count(len(models), 'model')}"
    detail += f", n = {count(min(row['n'] for row in found))} answers or more of each method. "
    detail += f"{'; '.join(named)}. " if named else ""
    detail += _starts(rows)
    return Finding(f"{headline}.", detail, how)


def _mean(rows: list[Row], column: str) -> float:
    return float(sum(row[column] for row in rows) / len(rows))


def _starts(rows: list[Row]) -> str:
    """How often the full model is right, and how many answers a second run of it changes."""
    full = [row for row in rows if row["method"] == FULL]
    right = [
        f"{share_with_interval(row, 'accuracy')} on {row['model']} (n = {count(row['n_graded'])})"
        for row in full
        if row["accuracy"] is not None
    ]
    text = "No answer of the full model is graded."
    if right:
        more = f" and {count(len(right) - NAMED)} more" if len(right) > NAMED else ""
        text = f"The full model is right in {', '.join(right[:NAMED])}{more}."
    floors = [row for row in rows if row["method"] == FLOOR and row["agreement"] is not None]
    if len(floors) < len(full) or not floors:
        return f"{text} The noise floor was not measured with every model."
    loudest = max(1 - row["agreement"] for row in floors)
    most = "at most " if len(floors) > 1 and loudest else ""
    n = count(sum(row["n"] for row in floors))
    return f"{text} A second run of it changes {most}{percent(loudest)} of the answers (n = {n})."


def _kept_table(audit: Audit, dataset: str, rows: list[Row], name: str, most: int) -> Table:
    caption = f"{dataset}: accuracy kept and answers kept, by method and keep"
    return table(f"{name}-kept", caption, telling(audit, KEPT), rows, most, How(kept(dataset), MADE_BY, N))


def _figures(audit: Audit, dataset: str, name: str, most: int) -> list[Block]:
    """What papers quote of the dataset, and the same by category in a fold."""
    made = benchmarks(audit, dataset, name, most)
    if not made:
        return [Prose(Markup('<p class="fine">The tables hold no benchmark figures of this dataset.</p>'))]
    prose = Markup(
        "<p>The figures that papers quote, and beside each the same figure for "
        '<a href="#def-counterpart">agreement</a>: with the full model\'s answers in place of the right ones, so that '
        "it falls as soon as answers change.</p>"
    )
    return [Prose(prose), made[0], *(Fold(parts.caption, [parts]) for parts in made[1:])]


def _categories(audit: Audit, dataset: str, keep: str, name: str, most: int) -> list[Block]:
    """Where answers change most, if questions are sorted into categories."""
    found = categories(audit, dataset, keep)
    if len(found) < 2:
        text = "no categories" if not found else "a single category"
        return [Prose(Markup('<p class="fine">The questions of this dataset have {}.</p>').format(text))]
    by_method = method_table(audit, dataset, keep, found, f"{name}-category-methods", most)
    return [
        drawing(audit, dataset, keep, found, f"{name}-categories"),
        summary_table(audit, dataset, keep, found, f"{name}-category", most),
        Fold(by_method.caption, [by_method]),
    ]


def _differences(audit: Audit, dataset: str, keep: str, name: str, most: int) -> list[Block]:
    """Two methods at a time, on this dataset alone."""
    found = difference_table(audit, dataset, keep, f"{name}-pairs", most)
    return [Fold(found.caption, [found])] if found.rows else []


def _asked(audit: Audit, dataset: str) -> Listing:
    """How the questions were put and graded, for each model."""
    query = f"SELECT * FROM (\n{SETTINGS}\n)\nWHERE dataset = {literal(dataset)}\nORDER BY model"
    rows = sorted(audit.select(query), key=lambda row: audit.models.index(row["model"]))
    n = count(sum(run["dataset"] == dataset for run in audit.runs), "sample file")
    return Listing(
        f"How {dataset} was asked and graded",
        ("model", *ASKED.values()),
        [(row["model"], *(NONE if row[column] is None else row[column] for column in ASKED)) for row in rows],
        How(query, ("stats/runs.sql",), n),
    )
