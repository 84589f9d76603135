"""Method against method: which differences are beyond chance, and how sure the order is."""

from collections.abc import Sequence

from lofi.cell import KEEP_ALL, OWN_COUNT
from lofi.report import ranks
from lofi.report.audit import BASELINES, Audit, token_share
from lofi.report.differences import MADE_BY, signed
from lofi.report.how import How
from lofi.report.matrix import AGAINST_FULL, BARE, Matrix, between_methods, drawing, matrix
from lofi.report.page import Block, Finding, Fold, Page
from lofi.report.sentences import BUDGET, mid_keep
from lofi.report.tables import KEEP, METHOD, MODEL, Table, share, table, text, whole
from lofi.report.words import count, keep_label, keep_name, listing
from lofi.tables import Row

MOST = 800  # rows of one table
MAX_KEEPS = 4  # matrices besides that of the middle keep
NAMED = 5
N = "n: samples that ran in every seed of both methods, on one model and dataset"
NOTHING = "No two methods ran at one keep on the same model and dataset, so none can be held against another."
COUNTS = """\
SELECT keep, count(*) AS compared, count(a.p_holm) AS tested, count_if(a.p_holm < 0.05) AS beyond,
    count(c.p_holm) AS tested_accuracy, count_if(c.p_holm < 0.05) AS beyond_accuracy,
    count_if(a.p_holm < 0.05 AND c.p_holm >= 0.05) AS hidden,
    min(a.n_tests) AS least_tests, max(a.n_tests) AS most_tests, min(a.n) AS least, max(a.n) AS most
FROM comparisons a JOIN comparisons c USING (model, dataset, keep, method, versus)
WHERE a.basis = 'agreement' AND c.basis = 'correct' AND versus <> 'full' AND method < versus
GROUP BY keep
ORDER BY keep"""
AVERAGES = """\
SELECT model, method, keep, n_datasets, n, agreement, relative_accuracy, relative_above_chance, op_rms
FROM averages
ORDER BY model, method, keep"""


def pages(audit: Audit) -> list[Page]:
    """The page `methods`."""
    counted = {row["keep"]: row for row in audit.select(COUNTS)}
    keeps = [keep for keep in audit.keeps if keep in counted]
    middle = mid_keep(audit)
    if middle not in keeps and keeps:
        middle = max(keeps, key=lambda keep: (counted[keep]["compared"], keep))
    blocks: list[Block] = [Finding(NOTHING, "")]
    if keeps and middle is not None:
        blocks = [*_differences(audit, [counted[keep] for keep in keeps], middle), *_order(audit, middle)]
    return [Page("methods", "Method against method", [*blocks, *_beside(audit)], terms=("difference", "beyond-chance"))]


def _differences(audit: Audit, counted: Sequence[Row], middle: str) -> list[Block]:
    """The matrix of the middle keep, its numbers, and those of accuracy and of other keeps."""
    agreement, accuracy = (matrix(audit, middle, basis) for basis in ("agreement", "correct"))
    at_middle = next(row for row in counted if row["keep"] == middle)
    blocks: list[Block] = [
        _finding(audit, agreement, at_middle),
        drawing(audit, agreement, "fig-methods"),
        _by_keep(counted),
        _pairs(audit, agreement, accuracy),
    ]
    if any(row["difference"] is not None for row in accuracy.at.values()):
        summary = f"The matrix of right answers at {keep_name(middle)}"
        blocks.append(Fold(summary, [drawing(audit, accuracy, "fig-methods-accuracy")]))
    others = [row["keep"] for row in counted if row["keep"] != middle]
    for i, keep in enumerate(others[: 1 if len(agreement.methods) > BARE else MAX_KEEPS]):
        drawn = drawing(audit, matrix(audit, keep, "agreement"), f"fig-methods-{i}")
        blocks.append(Fold(f"The matrix of answers kept at {keep_name(keep)}", [drawn]))
    return blocks


def _finding(audit: Audit, of: Matrix, row: Row) -> Finding:
    """How many differences are beyond chance, and what accuracy shows of them."""
    untested = row["compared"] - row["tested"]
    aside = f" ({count(untested)} more could not be tested: no sample ran in both)" if untested else ""
    headline = (
        f"At {keep_name(of.keep)}, {count(row['beyond'])} of {count(row['tested'], 'difference')} in agreement between "
        f"two methods {'is' if row['beyond'] == 1 else 'are'} beyond chance{aside}."
    )
    detail = "No answer was graded, so right answers cannot be compared. "
    if row["tested_accuracy"]:
        detail = (
            f"In accuracy it is {count(row['beyond_accuracy'])} of {count(row['tested_accuracy'])}; "
            f"{count(row['hidden'])} that agreement shows, accuracy does not. "
        )
    torn = [key for key, found in of.at.items() if key[0] < key[1] and found["more"] and found["fewer"]]
    if len(audit.pairs) > 1:
        detail += (
            f"Of {count(len(of.at) // 2, 'pair')} of methods, {count(len(torn)) if torn else 'none'} "
            f"{'differ' if len(torn) > 1 else 'differs'} beyond chance one way here and the other way there. "
        )
    tests = _span(row["least_tests"], row["most_tests"])
    detail += (
        f"Two methods are compared on the same images of one model and dataset (n = {_span(row['least'], row['most'])} "
        f"samples); p is exact, and corrected by Holm for the {tests} tests of that model and dataset at all keeps. "
        f"Seeds of a method are taken as they are.{_unequal(audit, of)}"
    )
    return Finding(headline, detail, How(COUNTS, MADE_BY, N))


def _span(least: int | None, most: int | None) -> str:
    return count(least) if least == most else f"{count(least)} to {count(most)}"


def _unequal(audit: Audit, of: Matrix) -> str:
    """Which methods spend other work at this keep than the keep says."""
    off = set()
    for point in audit.points:
        spent, asked = token_share(point), point.get("keep_ratio")
        if point["keep"] == of.keep and spent and asked and abs(spent / asked - 1) > BUDGET:
            off.add(point["method"])
    names = [audit.label(method) for method in of.methods if method in off]
    if not names:
        return ""
    more = f" and {count(len(names) - NAMED)} more" if len(names) > NAMED else ""
    named = listing(names[:NAMED]) if not more else ", ".join(names[:NAMED]) + more
    return f" Not at equal work: over the decoder's layers {named} read another share of the tokens than the keep says."


BY_KEEP = (
    KEEP,
    whole("differences", "tested", "difference"),
    whole("beyond chance in agreement", "beyond", "beyond-chance"),
    whole("beyond chance in accuracy", "beyond_accuracy", "beyond-chance"),
    whole("only in agreement", "hidden"),
    whole("n, least", "least", "n"),
    whole("n, most", "most", "n"),
)
PAIRS = (
    text("method", "method", "method"),
    text("less", "versus"),
    signed("agreement (points)", "agreement", "difference"),
    whole("more in", "agreement_more", "beyond-chance"),
    whole("fewer in", "agreement_fewer", "beyond-chance"),
    signed("accuracy (points)", "correct", "difference"),
    whole("more right in", "correct_more", "beyond-chance"),
    whole("fewer right in", "correct_fewer", "beyond-chance"),
    whole("models and datasets", "pairs"),
    whole("n", "n", "n"),
)
FULL_LESS = (
    METHOD,
    KEEP,
    signed("accuracy less full's (points)", "difference", "difference"),
    whole("lower in", "fewer", "beyond-chance"),
    whole("higher in", "more", "beyond-chance"),
    whole("models and datasets", "pairs"),
    whole("n", "n", "n"),
)
AVERAGED = (
    MODEL,
    METHOD,
    KEEP,
    share("answers kept (agreement)", "agreement", "agreement", bar=True),
    share("accuracy kept", "relative_accuracy", "relative-accuracy"),
    share("accuracy kept above chance", "relative_above_chance", "above-chance"),
    share("root mean square", "op_rms", "op-rms"),
    whole("datasets", "n_datasets"),
    whole("n", "n", "n"),
)


def _by_keep(counted: Sequence[Row]) -> Table:
    """How many differences are beyond chance at every keep."""
    caption = "Differences between two methods that are beyond chance, by keep"
    return table("methods-keeps", caption, BY_KEEP, list(counted), MOST, How(COUNTS, MADE_BY, N))


def _pairs(audit: Audit, agreement: Matrix, accuracy: Matrix) -> Table:
    """Every pair of methods once, the one that keeps more answers first."""
    rows = []
    for (method, versus), row in agreement.at.items():
        back = agreement.at.get((versus, method), row)
        gain = row["difference"] or 0.0
        if gain > (back["difference"] or 0.0) or (gain == 0 and method < versus):
            found = {"method": audit.label(method), "versus": audit.label(versus), "pairs": row["pairs"], "n": row["n"]}
            found |= _named(row, "agreement")
            rows.append(found | _named(accuracy.at.get((method, versus), {}), "correct"))
    rows.sort(key=lambda row: (-(row["agreement"] or 0.0), row["method"], row["versus"]))
    caption = (
        f"Every two methods at {keep_name(agreement.keep)}: mean difference over models and datasets, and on how many "
        "of them it is beyond chance"
    )
    n = "n: samples of one method that the other has too, added up over models and datasets"
    return table("methods-pairs", caption, PAIRS, rows, MOST, How(between_methods(agreement.keep), MADE_BY, n))


def _named(row: Row, basis: str) -> Row:
    """The numbers of one measure under their own names."""
    ends = {"": "difference", "_low": "difference_low", "_high": "difference_high", "_more": "more", "_fewer": "fewer"}
    return {f"{basis}{end}": row.get(column) for end, column in ends.items()}


def _order(audit: Audit, keep: str) -> list[Block]:
    """How sure the order of methods is."""
    rows = audit.select(ranks.places(keep))
    if not rows:
        return []
    return [
        ranks.finding(keep, rows),
        ranks.drawing(audit, keep, rows),
        ranks.stability_table(audit),
        Fold(f"The place of every method at keep {keep_label(keep)}", [ranks.place_table(audit, keep, rows)]),
    ]


def _beside(audit: Audit) -> list[Block]:
    """Accuracy against full, and the means over datasets."""
    blocks: list[Block] = []
    if against := [row for row in audit.select(AGAINST_FULL) if row["difference"] is not None]:
        caption = (
            "Accuracy of each method less the full model's, and on how many models and datasets it is beyond chance"
        )
        n = "n: samples that ran in every seed of the method, added up over models and datasets"
        how = How(AGAINST_FULL, MADE_BY, n)
        blocks.append(table("methods-full", caption, FULL_LESS, _sorted(audit, against), MOST, how))
    averages = _sorted(audit, audit.select(AVERAGES))
    n = "n: answers, added up over datasets and seeds"
    how = How(AVERAGES, ("stats/averages.sql", "stats/ratios.sql"), n)
    means = table("methods-means", "Means over all datasets of a model", AVERAGED, averages, MOST, how)
    return [*blocks, Fold("Means over datasets, by model, method and keep", [means])]


def _sorted(audit: Audit, rows: list[Row]) -> list[Row]:
    """In the order of the report: by model, method, and from the mildest keep to the harshest."""
    methods, keeps = (*BASELINES, *audit.methods), (KEEP_ALL, *audit.keeps, OWN_COUNT)

    def place(row: Row) -> tuple[int, int, int]:
        model = audit.models.index(row["model"]) if "model" in row else 0
        return model, methods.index(row["method"]), keeps.index(row["keep"])

    return sorted(rows, key=place)
