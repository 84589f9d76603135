"""The questions of one dataset by category: where answers change most."""

from dataclasses import dataclass

from lofi.cell import FULL
from lofi.report.audit import Audit, groups
from lofi.report.drawing import Figure, canvas, finish
from lofi.report.heat import Scale, Written, heat
from lofi.report.how import How
from lofi.report.tables import METHOD, Column, Table, share, table, text, whole
from lofi.report.words import count, keep_name, percent
from lofi.tables import Row, literal

MADE_BY = ("stats/categories.sql",)
DRAWN = 25  # categories of one figure, those of most questions first
LETTERS = 30  # of a category's name that stand in the figure
WHOLE = 16  # more methods than this: whole percents
N = "n: answers, the seeds of a method and all models together"


def query(dataset: str, keep: str) -> str:
    """The SELECT of every category at one keep, beside full: means over seeds, then over models."""
    rates = ("agreement", "accuracy", "neg_flip")
    inner, outer = (
        ",\n        ".join(
            f"CASE WHEN count({rate}) = count(*) THEN avg({rate} ORDER BY {by}) END AS {rate}" for rate in rates
        )
        for by in ("seed", "model")
    )
    return f"""\
WITH of_models AS (
    SELECT model, category, method, keep, sum(n)::BIGINT AS n, max(n) AS questions,
        {inner}
    FROM categories
    WHERE dataset = {literal(dataset)} AND (keep = {literal(keep)} OR method = '{FULL}')
    GROUP BY model, category, method, keep
)
SELECT category, method, keep, count(*) AS models, sum(n)::BIGINT AS n, max(questions) AS questions,
        {outer}
FROM of_models
GROUP BY category, method, keep
ORDER BY category, method"""


@dataclass(frozen=True)
class Category:
    """One category of a dataset at one keep."""

    name: str
    full: Row | None
    methods: dict[str, Row]  # in the order of the report

    @property
    def questions(self) -> int:
        """Asked of each cell, as far as they ran."""
        return max(int(row["questions"]) for row in (self.full, *self.methods.values()) if row)

    @property
    def agreement(self) -> float | None:
        """The mean over methods."""
        known = [row["agreement"] for row in self.methods.values() if row["agreement"] is not None]
        return sum(known) / len(known) if known else None


def categories(audit: Audit, dataset: str, keep: str) -> list[Category]:
    """Every category with its methods, those of most questions first."""
    found = []
    for rows in groups(audit.select(query(dataset, keep)), ("category",)):
        at = {row["method"]: row for row in rows}
        methods = {method: at[method] for method in audit.methods if method in at}
        if methods:
            found.append(Category(str(rows[0]["category"]), at.get(FULL), methods))
    return sorted(found, key=lambda category: (-category.questions, category.name))


def drawing(audit: Audit, dataset: str, keep: str, found: list[Category], name: str) -> Figure:
    """Agreement by category and method."""
    shown = found[:DRAWN]
    methods = [method for method in audit.methods if any(method in category.methods for category in shown)]
    rows = [[category.methods.get(method, {}).get("agreement") for method in methods] for category in shown]
    values = [[None if value is None else 100 * value for value in row] for row in rows]
    digits = 0 if len(methods) > WHOLE else 1
    written = [
        [Written(percent(v, digits).removesuffix("%").strip() if v is not None else "") for v in r] for r in rows
    ]
    known = [value for row in values for value in row if value is not None]
    figure, [[axes]] = canvas(1, 1, 1.2 + 0.28 * max(3, len(shown)))
    labels = [f"{_short(category.name)} ({count(category.questions)})" for category in shown]
    scale = Scale(min(known, default=0.0) - 2, 105, "Blues_r")
    heat(axes, values, written, (labels, [audit.label(method) for method in methods]), scale)
    models = "" if len(audit.models) == 1 else ", mean over models"
    caption = (
        f"Agreement in percent at {keep_name(keep)}, by category and method{models}; beside each category the number "
        "of its questions. Whether categories differ beyond chance is not tested; few questions leave much to chance."
    )
    if len(found) > DRAWN:
        caption += f" The {DRAWN} categories of most questions of {count(len(found))} are drawn."
    data = [row for category in shown for row in category.methods.values()]
    return finish(figure, name, _title(dataset, keep, found), caption, how(dataset, keep), data)


def _title(dataset: str, keep: str, found: list[Category]) -> str:
    means = [(category.agreement, category.name) for category in found if category.agreement is not None]
    if len(means) < 2:
        return f"Answers kept on {dataset} at {keep_name(keep)}, by category and method."
    (low, least), (high, most) = min(means), max(means)
    return (
        f"At {keep_name(keep)} answers about “{_short(least)}” change most ({percent(1 - low)}) and about "
        f"“{_short(most)}” least ({percent(1 - high)}), on average over methods."
    )


def _short(name: str) -> str:
    """On one line, and no longer than a label may be."""
    line = " ".join(name.split())
    return line if len(line) <= LETTERS else line[: LETTERS - 1] + "…"


def how(dataset: str, keep: str) -> How:
    """Where the numbers of every category come from."""
    return How(query(dataset, keep), MADE_BY, N)


OF_CATEGORIES = (
    text("category", "category"),
    whole("questions", "questions"),
    share("full's accuracy", "full_accuracy", "accuracy"),
    share("answers kept (agreement), mean over methods", "agreement", "agreement", bar=True),
    Column("least kept by", lambda r: f"{r['worst']} ({percent(r['least'])})", lambda r: r["least"], "agreement"),
    Column("most kept by", lambda r: f"{r['best']} ({percent(r['most'])})", lambda r: r["most"], "agreement"),
    whole("n", "n", "n"),
)
OF_METHODS = (
    text("category", "category"),
    METHOD,
    share("answers kept (agreement)", "agreement", "agreement", bar=True),
    share("accuracy", "accuracy", "accuracy"),
    share("lost", "neg_flip", "neg-flip"),
    whole("n", "n", "n"),
)


def summary_table(audit: Audit, dataset: str, keep: str, found: list[Category], name: str, most: int) -> Table:
    """One row per category."""
    rows = [_summary(audit, category) for category in found]
    caption = f"{dataset}: categories of questions at {keep_name(keep)}"
    return table(name, caption, OF_CATEGORIES, rows, most, how(dataset, keep))


def _summary(audit: Audit, category: Category) -> Row:
    known = [(row["agreement"], method) for method, row in category.methods.items() if row["agreement"] is not None]
    (least, worst), (most, best) = (min(known), max(known)) if known else ((None, ""), (None, ""))
    return {
        "category": category.name,
        "questions": category.questions,
        "full_accuracy": category.full["accuracy"] if category.full else None,
        "agreement": category.agreement,
        "least": least,
        "most": most,
        "worst": audit.label(worst) if worst else "",
        "best": audit.label(best) if best else "",
        "n": sum(row["n"] for row in category.methods.values()),
    }


def method_table(audit: Audit, dataset: str, keep: str, found: list[Category], name: str, most: int) -> Table:
    """One row per category and method."""
    rows = [{**row, "method": audit.label(method)} for category in found for method, row in category.methods.items()]
    caption = f"{dataset}: categories and methods at {keep_name(keep)}"
    return table(name, caption, OF_METHODS, rows, most, how(dataset, keep))
