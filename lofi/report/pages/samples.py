"""The changed answers themselves: how many there are, and each to look at."""

from markupsafe import Markup

from lofi.report.audit import Audit
from lofi.report.changes import CLASSES
from lofi.report.how import How
from lofi.report.page import Block, Explorer, Finding, Page, Prose
from lofi.report.side import Side
from lofi.report.tables import Column, share, table, whole
from lofi.report.words import count, percent, small
from lofi.tables import Row

ALL = "SELECT sum(n)::BIGINT AS n FROM cells WHERE method <> 'full'"
QUERY = f"""
SELECT class, count(*) AS n, count(*) / ({ALL}) AS share, median(kl) AS kl
FROM flips GROUP BY class ORDER BY n DESC, class
"""
ROWS = """
SELECT model, dataset, method, keep, seed, sample_id, class, full_answer, reduced_answer, margin_full, kl
FROM flips ORDER BY kl DESC NULLS LAST LIMIT 20
"""
DEFINED = {"neg_flip": "neg-flip", "pos_flip": "pos-flip", "wrong_to_other": "exchanged", "right_to_other": "exchanged"}
COLUMNS = (
    Column("class", lambda row: CLASSES[row["class"]], lambda row: CLASSES[row["class"]], "neg-flip", numeric=False),
    whole("changed answers", "n"),
    share("of all answers", "share", ""),
    Column("median KL", lambda row: small(row["kl"]), lambda row: row["kl"], "kl"),
)


def pages(audit: Audit) -> list[Page]:
    """One page; where no answer changed it says so."""
    rows = audit.select(QUERY)
    (answers,) = audit.select(ALL)
    total = sum(row["n"] for row in rows)
    blocks: list[Block] = [_finding(audit, rows, total, answers["n"] or 0)]
    if audit.side is not None and audit.side.shown:
        blocks += [_reading(audit.side), _explorer(audit.side, total)]
    if rows:
        n = f"n = {count(answers['n'], 'answer')} of every cell but full's"
        how = How(QUERY, ("stats/outcomes.sql", "stats/flips.sql"), n)
        blocks.append(table("changed", "What became of the answers that changed", COLUMNS, rows, how=how))
    return [Page("samples", "Changed answers", blocks, terms=("agreement", "margin", "kl"))]


def _finding(audit: Audit, rows: list[Row], total: int, answers: int) -> Finding:
    if not total:
        none = f"Not one of the {count(answers, 'answer')} of other cells than full's differs from the full model's."
        return Finding(
            none if answers else "Nothing but the full model was run.", "So there is nothing to look at here."
        )
    parts = ", ".join(f"{count(row['n'])} {CLASSES[row['class']]}" for row in rows)
    if audit.side is None or not audit.side.shown:
        here = "They were not written beside this page."
    elif audit.side.shown == total:
        here = "All of them are here."
    else:
        here = (
            f"Here are {count(audit.side.shown)} of them, drawn evenly over models, datasets, methods, keeps and "
            "classes, so the shares among these rows are not those among all."
        )
    return Finding(
        f"{count(total)} of {count(answers, 'answer')} are not the full model's ({percent(total / answers)}).",
        f"{parts[0].upper() + parts[1:]}. {here}",
    )


def _reading(side: Side) -> Prose:
    if side.pictures:
        images = Markup(
            "Dimmed squares are visual tokens that the method dropped, laid over the image as if preprocessing only "
            "resized it; where the image or the tokens are no square it is shown plain."
        )
    else:
        images = Markup("No images are shown: no dataset here allows copies of them in a report.")
    lost = Markup("")
    if side.lost_questions:
        lost = Markup(" The prepared data no longer have {}, so their texts are missing.").format(
            count(side.lost_questions, "question")
        )
    return Prose(
        Markup(
            "<p>Each row is one answer that is not the full model's. {}{} A row's link opens this page at that row. "
            "The rows come from the folder <code>{}</code>, which goes wherever this page goes.</p>"
        ).format(images, lost, side.folder)
    )


def _explorer(side: Side, total: int) -> Explorer:
    made_by = ("stats/flips.sql", "report/changes.py", "report/encode.py")
    return Explorer(side, How(ROWS, made_by, f"n = {count(side.shown)} of {count(total, 'changed answer')}"))
