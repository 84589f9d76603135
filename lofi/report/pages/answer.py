"""The answer: what dropping tokens does, which method keeps most, what the spectrum says, and what to mistrust."""

from dataclasses import replace

from markupsafe import Markup

from lofi.report import quantised, sentences
from lofi.report.audit import Audit
from lofi.report.cautions import cautions
from lofi.report.drawing import Figure
from lofi.report.figures import kept_against_kept
from lofi.report.how import How
from lofi.report.page import Block, Finding, Page, Prose, Tally
from lofi.report.words import count

SHARES = ("agreement", "agreement_low", "agreement_high", "accuracy", "relative_accuracy")


def _means(columns: tuple[str, ...] = SHARES) -> str:
    """Means that are null where one value is: a partial mean would mislead."""
    return ", ".join(f"CASE WHEN count({c}) = count(*) THEN avg({c}) END AS {c}" for c in columns)


# Over seeds first, then over models, then over datasets, whose half-widths add up in quadrature.
OVERALL = f"""
WITH points AS (SELECT model, dataset, method, keep, sum(n) AS n, {_means()} FROM cells GROUP BY ALL),
parts AS (SELECT dataset, method, keep, count(*) AS pairs, sum(n) AS n, {_means()} FROM points GROUP BY ALL)
SELECT
    method, keep, {_means(("agreement",))},
    avg(agreement) - CASE WHEN count(agreement_low) = count(*)
        THEN sqrt(sum((agreement - agreement_low) ^ 2)) / count(*) END AS agreement_low,
    avg(agreement) + CASE WHEN count(agreement_high) = count(*)
        THEN sqrt(sum((agreement_high - agreement) ^ 2)) / count(*) END AS agreement_high,
    {_means(("accuracy", "relative_accuracy"))}, sum(n)::BIGINT AS n
FROM parts
GROUP BY method, keep
HAVING sum(pairs) = (SELECT count(DISTINCT (model, dataset)) FROM cells)
ORDER BY method, keep DESC
"""
MADE_BY = ("stats/cells.sql", "stats/intervals.py:of_cells", "report/audit.py:over_datasets")
COMPARED = """
SELECT model, dataset, keep, method, versus, difference, low, high, n
FROM comparisons WHERE basis = 'agreement' AND versus = '{}' ORDER BY ALL
"""
PRIMARY = """
SELECT scope, pearson, low, high, p, n_cells, n_groups FROM correlations
WHERE "primary" OR (scope = 'within_model_dataset_keep' AND delta = 'dlog' AND statistic = 'ipr'
    AND site = 'projector' AND tokens = 'visual' AND NOT centred)
"""
COUNTS = """
SELECT
    (SELECT count(*) FROM cells) AS cells,
    (SELECT count(*) FROM runs) AS files,
    (SELECT min(n + n_errors) FROM cells) AS fewest,
    (SELECT max(n + n_errors) FROM cells) AS most,
    (SELECT sum(errors)::BIGINT FROM runs) AS errors
"""


def pages(audit: Audit) -> list[Page]:
    """One page, the first."""
    found = cautions(audit)
    blocks: list[Block] = [*_findings(audit), _figure(audit)]
    if found:
        what = "thing" if len(found) == 1 else "things"
        blocks.append(Prose(Markup("<h3>{} {} to know before believing a number</h3>").format(count(len(found)), what)))
        blocks += found
    else:
        blocks.append(
            Prose(
                Markup(
                    '<p class="fine">No warnings: no cell is missing, no sample failed, no reducer below keep 1 left '
                    "every answer as it was, and every cell kept as many tokens as it was asked to.</p>"
                )
            )
        )
    return [Page("answer", "The answer", [*blocks, _tally(audit)], badge=len(found), terms=("agreement", "keep"))]


def _findings(audit: Audit) -> list[Finding]:
    n = count(sum(cell["n"] for cell in audit.cells), "answer")
    overall = How(OVERALL, MADE_BY, f"{n} in {count(len(audit.cells), 'cell')}")
    versus = (audit.random or "").replace("'", "''")
    compared = How(COMPARED.format(versus), ("stats/comparisons.py:compared",), f"{len(audit.comparisons)} comparisons")
    n = f"{count(len(audit.select(PRIMARY)), 'correlation')}, in each row the number of cells"
    primary = How(PRIMARY, ("stats/correlations.sql", "stats/correlate.py:correlate"), n)
    harsh, best, spectra = sentences.answer(audit)
    quantising = quantised.answer(audit)
    return [
        replace(harsh, how=overall),
        replace(best, how=compared if audit.random and audit.comparisons else overall),
        replace(spectra, how=primary),
        *([replace(quantising, how=overall)] if quantising else []),
    ]


def _figure(audit: Audit) -> Figure:
    n = count(sum(point["n"] for point in audit.overall.values()), "answer")
    rows = tuple(audit.select(OVERALL))
    return replace(kept_against_kept(audit), how=How(OVERALL, MADE_BY, f"n = {n}, in each row its own"), rows=rows)


def _tally(audit: Audit) -> Tally:
    """What the sweep holds."""
    (found,) = audit.select(COUNTS)
    span = count(found["fewest"])
    if found["most"] != found["fewest"]:
        span = f"{span} to {count(found['most'])}"
    entries = (
        ("cells found", count(found["cells"])),
        ("sample files expected", count(audit.making.expected) if audit.making.expected else "not stated"),
        ("sample files found", count(found["files"])),
        ("samples per cell", span),
        ("models", count(len(audit.models))),
        ("datasets", count(len(audit.datasets))),
        ("methods", count(len(audit.methods))),
        ("keeps", count(len(audit.keeps))),
        ("failed samples", count(found["errors"])),
    )
    return Tally(entries, How(COUNTS, ("stats/cells.sql", "stats/runs.sql"), f"{count(found['cells'], 'cell')}"))
