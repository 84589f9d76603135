"""Method against method at one keep: mean differences over models and datasets, and how many are beyond chance."""

from dataclasses import dataclass

from lofi.cell import FULL
from lofi.report.audit import Audit
from lofi.report.differences import MADE_BY
from lofi.report.drawing import Figure, canvas, finish
from lofi.report.heat import Scale, Written, heat
from lofi.report.how import How
from lofi.report.words import MINUS, count, keep_name, listing
from lofi.tables import Row, literal

ALPHA = 0.05
WHOLE = 14  # more methods than this: whole points
BARE = 20  # more methods than this: what is never beyond chance has no number
NAMED = 3
MEASURES = {  # basis of the comparisons -> what is counted, and what one method and several do more of
    "agreement": ("answers kept", "keeps more answers", "keep more answers"),
    "correct": ("right answers", "gives more right answers", "give more right answers"),
}
# Inside a dataset cells share images, so bounds are averaged; over datasets, whose images differ, half-widths are
# combined in quadrature.
_DIFFERENCES = """\
WITH of_datasets AS (
    SELECT
        basis, method, versus, {keep}dataset,
        avg(difference ORDER BY model) AS difference,
        CASE WHEN count(low) = count(difference) THEN avg(low ORDER BY model) END AS low,
        CASE WHEN count(high) = count(difference) THEN avg(high ORDER BY model) END AS high,
        count(difference) AS pairs, count(p_holm) AS tested,
        count_if(p_holm < 0.05 AND difference > 0) AS more,
        count_if(p_holm < 0.05 AND difference < 0) AS fewer,
        sum(n)::BIGINT AS n
    FROM comparisons
    WHERE {where}
    GROUP BY ALL
)
SELECT
    basis, method, versus, {keep}
    avg(difference ORDER BY dataset) AS difference,
    CASE WHEN count(low) = count(difference) THEN avg(difference ORDER BY dataset)
        - sqrt(sum((difference - low) ** 2 ORDER BY dataset)) / count(difference) END AS difference_low,
    CASE WHEN count(high) = count(difference) THEN avg(difference ORDER BY dataset)
        + sqrt(sum((high - difference) ** 2 ORDER BY dataset)) / count(difference) END AS difference_high,
    sum(pairs)::BIGINT AS pairs, sum(tested)::BIGINT AS tested,
    sum(more)::BIGINT AS more, sum(fewer)::BIGINT AS fewer, sum(n)::BIGINT AS n
FROM of_datasets
GROUP BY ALL
ORDER BY ALL"""
AGAINST_FULL = _DIFFERENCES.format(keep="keep, ", where=f"versus = '{FULL}' AND basis = 'correct'")


def between_methods(keep: str, basis: str | None = None) -> str:
    """The SELECT of all mean differences between two methods at one keep, both ways; None: of all measures."""
    of_basis = "" if basis is None else f" AND basis = '{basis}'"
    return _DIFFERENCES.format(keep="", where=f"keep = {literal(keep)} AND versus <> '{FULL}'{of_basis}")


@dataclass(frozen=True)
class Matrix:
    """The differences of one measure between the methods of one keep."""

    basis: str  # of `MEASURES`
    keep: str
    methods: tuple[str, ...]
    at: dict[tuple[str, str], Row]  # (method, versus) -> mean difference and how often it is beyond chance

    def wins(self, method: str) -> int:
        """How many others it beats beyond chance wherever both ran."""
        return sum(always(self.at[key]) > 0 for key in self.at if key[0] == method)


def matrix(audit: Audit, keep: str, basis: str) -> Matrix:
    """Lay the rows of `between_methods` out in the order of the report."""
    at = {(row["method"], row["versus"]): row for row in audit.select(between_methods(keep, basis))}
    present = {method for method, _ in at}
    return Matrix(basis, keep, tuple(method for method in audit.methods if method in present), at)


def always(row: Row) -> int:
    """1 or -1 where the difference is beyond chance, to one side, on every model and dataset; else 0."""
    if not row["pairs"]:
        return 0
    return int(row["more"] == row["pairs"]) - int(row["fewer"] == row["pairs"])


def drawing(audit: Audit, of: Matrix, name: str) -> Figure:
    """Every method against every other."""
    names = [audit.label(method) for method in of.methods]
    values: list[list[float | None]] = []
    for method in of.methods:
        found = [of.at.get((method, other), {}).get("difference") for other in of.methods]
        values.append([None if value is None else 100 * value for value in found])
    most = max((abs(value) for row in values for value in row if value is not None), default=0.0)
    figure, [[axes]] = canvas(1, 1, 1.1 + min(0.42, max(0.2, 7 / len(names))) * len(names))
    written = [[_written(of, method, other) for other in of.methods] for method in of.methods]
    heat(axes, values, written, (names, names), Scale(-max(most, 1.0), max(most, 1.0), "vlag_r"))
    axes.set_ylabel("this method …")
    axes.set_xlabel("… is ahead of this one by so many points")
    rows = tuple({"keep": of.keep, **row} for row in of.at.values())
    return finish(figure, name, _title(audit, of), _caption(audit, of), _how(of), rows)


def _written(of: Matrix, method: str, other: str) -> Written:
    """In points: bold beyond chance everywhere, plain somewhere, in brackets nowhere."""
    row = of.at.get((method, other))
    if row is None or row["difference"] is None:
        return Written("")
    text = f"{100 * row['difference']:+.{0 if len(of.methods) > WHOLE else 1}f}".replace("-", MINUS)
    text = text[1:] if not float(text[1:]) else text
    if row["more"] or row["fewer"]:
        return Written(text, bold=always(row) != 0)
    return Written("" if len(of.methods) > BARE else f"({text})")


def _title(audit: Audit, of: Matrix) -> str:
    others = len(of.methods) - 1
    _, one, several = MEASURES[of.basis]
    where = "" if len(audit.pairs) == 1 else ", on every model and dataset"
    wins = {method: of.wins(method) for method in of.methods}
    most = max(wins.values(), default=0)
    at = f"At {keep_name(of.keep)}"
    if not most:
        return f"{at}, no method {one} than another beyond chance{where}."
    first = [audit.label(method) for method in of.methods if wins[method] == most]
    if len(first) > NAMED:
        who = f"each of {count(len(first), 'method')} {one}"
    else:
        who = f"{first[0]} {one}" if len(first) == 1 else f"{listing(first)} each {several}"
    return f"{at}, {who} than {most} of {others} others, beyond chance{where}."


def _caption(audit: Audit, of: Matrix) -> str:
    pairs = len(audit.pairs)
    mean = "" if pairs == 1 else f", mean over the models and datasets where both ran (at most {count(pairs)})"
    everywhere = "beyond chance" if pairs == 1 else "beyond chance, to one side, on every model and dataset"
    somewhere = "" if pairs == 1 else "; plain: on some"
    nowhere = "no number: on none" if len(of.methods) > BARE else "in brackets: on none"
    nowhere = nowhere.replace("on none", "not beyond chance") if pairs == 1 else nowhere
    return (
        f"Share of {MEASURES[of.basis][0]} of the method of the row less that of the column, in percentage points, on "
        f"the same images{mean}. Each half mirrors the other. Bold: {everywhere} (Holm-corrected p below {ALPHA:g})"
        f"{somewhere}; {nowhere}."
    )


def _how(of: Matrix) -> How:
    sizes = [row["n"] for row in of.at.values()]
    span = count(min(sizes, default=0)) if len(set(sizes)) < 2 else f"{count(min(sizes))} to {count(max(sizes))}"
    n = f"n = {span} samples for each pair of methods, added up over models and datasets"
    return How(between_methods(of.keep, of.basis), MADE_BY, n)
