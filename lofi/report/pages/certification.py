"""Certification: the smallest keep of each method that is shown to stay within a limit, and what stopped the rest."""

from collections import Counter
from collections.abc import Sequence

from markupsafe import Markup

from lofi.report import bounds
from lofi.report.audit import Audit
from lofi.report.bounds import BOUNDS, CHANGED, LOST, NAMES, fine, limit, sizes, span
from lofi.report.how import How
from lofi.report.page import Block, Finding, Fold, Page, Prose
from lofi.report.tables import METHOD, Column, Table, decimal, table, telling, text, whole
from lofi.report.words import count, keep_label, keep_name, listing, number, percent
from lofi.tables import Row

OPTIONS = {LOST: "--max-negative-flips", CHANGED: "--max-divergence"}
DOES = {LOST: "turn at most {} of the answers from right to wrong", CHANGED: "change at most {} of the answers"}
MADE_BY = (*bounds.MADE_BY, "stats/certificates.py:certify")
NAMED = 4  # keeps named in one sentence
CERTIFICATES = "SELECT * FROM certificates WHERE risk = '{}' ORDER BY model, dataset, method"


def pages(audit: Audit) -> list[Page]:
    """One page; where nothing can be certified it says why."""
    if audit.source is None or not {"certificates", "risks"} <= audit.source.names:
        missing = Finding("The tables hold no certificates.", "Make them again with: lofi aggregate")
        return [Page("certification", "Certification", [missing])]
    found = {risk: _ordered(audit, audit.select(CERTIFICATES.format(risk))) for risk in NAMES}
    if not any(found.values()):
        nothing = Finding("There is nothing to certify.", "The sweep has no method beside full and floor.")
        return [Page("certification", "Certification", [nothing])]
    measured = {risk: _ordered(audit, audit.select(BOUNDS.format(risk=risk))) for risk in NAMES}
    blocks: list[Block] = [finding(found[LOST])]
    if drawn := [row for row in measured[LOST] if row["upper"] is not None and row["tokens"]]:
        blocks.append(bounds.figure(audit, drawn))
    blocks += [_meaning(found[LOST]), certified_table(audit, found[LOST]), _asking(found[LOST])]
    others: list[Block] = [_sentence(finding(found[CHANGED])), certified_table(audit, found[CHANGED])]
    blocks.append(Fold(f"Limits on changed answers, which need no grades ({limit(found[CHANGED])})", others))
    titles = {risk: f"The bound on {NAMES[risk]} at each keep" for risk in NAMES}
    blocks += [Fold(titles[risk], [bounds.bounds_table(audit, risk, measured[risk])]) for risk in NAMES]
    terms = ("certified-keep", "upper-bound", "why-not-less")
    return [Page("certification", "Certification", blocks, terms=terms)]


def _ordered(audit: Audit, rows: list[Row]) -> list[Row]:
    """In the report's order of datasets, models and methods; keeps as the query has them."""
    order = {"dataset": audit.datasets, "model": audit.models, "method": audit.methods}
    return sorted(rows, key=lambda row: tuple(names.index(row[axis]) for axis, names in order.items()))


def finding(rows: list[Row]) -> Finding:
    """How many combinations have a certified keep, at which keeps, and why the others have none."""
    does = DOES[rows[0]["risk"]].format(limit(rows))
    passed = [row for row in rows if row["keep"] is not None]
    if passed:
        keeps = Counter(row["keep"] for row in passed).most_common()
        named = [f"{keep_name(keep)} in {count(times)}" for keep, times in keeps[:NAMED]]
        more = [f"another in {count(sum(times for _, times in keeps[NAMED:]))}"] if len(keeps) > NAMED else []
        of_all = f"{len(passed)} of {count(len(rows), 'combination')} of model, dataset and method"
        headline = f"{of_all} {'has' if len(passed) == 1 else 'have'} a keep that is shown to {does}."
        detail = f"The smallest one is {listing(named + more)}. {_wrong(rows)}"
    else:
        headline = f"No method is shown to {does}, at any keep."
        detail = ""
    lacking = [row for row in rows if row["keep"] is None]
    of_these = f"{count(len(lacking), 'combination')} of model, dataset and method"
    where = f"Where there is none ({of_these})" if passed else f"Of {of_these}"
    return Finding(headline, f"{detail}{_lacking(lacking, where)}{sizes(rows)}.", _how(rows))


def _how(rows: Sequence[Row]) -> How:
    return How(CERTIFICATES.format(rows[0]["risk"]), MADE_BY, sizes(rows))


def _lacking(rows: list[Row], where: str) -> str:
    """Why so many combinations have no certified keep."""
    tally = Counter(row["reason"] for row in rows)
    parts = []
    if tally["rate"]:
        parts.append(f"in {count(tally['rate'])} the mildest keep goes wrong as often as the limit or more")
    if tally["images"]:
        needed = [row["images_needed"] for row in rows if row["images_needed"] is not None]
        would = f": at the rates that were seen, {span(needed, 'image')} would do" if needed else ""
        parts.append(f"in {count(tally['images'])} the images are too few to tell{would}")
    if tally["grades"]:
        parts.append(f"in {count(tally['grades'])} no answer has a grade")
    if not parts:
        return ""
    return f"{where}, {listing(parts)}. "


def _wrong(rows: list[Row]) -> str:
    """What the confidence of single lines means for all of them."""
    expected, confidence = (1 - rows[0]["confidence"]) * len(rows), percent(rows[0]["confidence"], 0)
    return (
        f"Each line of the table has {confidence} one-sided confidence by itself; in {count(len(rows), 'line')} up to "
        f"{number(expected, 1)} wrong certificates have to be expected. "
    )


def _sentence(found: Finding) -> Prose:
    return Prose(Markup("<p><strong>{}</strong> {}</p>").format(found.headline, found.detail))


def _meaning(rows: Sequence[Row]) -> Prose:
    return Prose(
        Markup(
            "<p>If images are drawn independently from those that the deployment will see, the chance that the keep of "
            "one line has a true rate above {} is at most {}, at every number of images and however the "
            "questions about one image depend on each other. Keeps are tested from the most tokens to the fewest, and "
            "the first that fails ends the test. A sample that ended in an error, or has no grade, counts as gone "
            "wrong, and every seed must pass by itself. A keep without certificate is not shown to be unsafe.</p>"
        ).format(limit(rows), percent(1 - rows[0]["confidence"], 0))
    )


def _asking(rows: Sequence[Row]) -> Prose:
    share, confidence = rows[0]["max_rate"], rows[0]["confidence"]
    command = f"lofi certify {OPTIONS[rows[0]['risk']]} {share:g} --confidence {confidence:g}"
    other = f"lofi certify {OPTIONS[CHANGED]} 0.1 --confidence 0.99"
    return Prose(
        Markup(
            "<p><code>{}</code> gives the same lines. Other limits need no new run, because the table "
            "<code>risks</code> has all that a bound needs: <code>{}</code>, say. Who picks the best of "
            "ten lines should ask for ten times less error: <code>--confidence {:g}</code>.</p>"
        ).format(command, other, 1 - (1 - confidence) / 10)
    )


def why(row: Row) -> str:
    """Why the first keep that did not pass did not."""
    if row["stopped_keep"] is None:
        return "the sweep has no smaller keep"
    if row["reason"] == "grades":
        return f"no answer at keep {keep_label(row['stopped_keep'])} has a grade"
    failed = f", failed samples among them: {count(row['stopped_errors'])}" if row["stopped_errors"] else ""
    seen = f"{keep_name(row['stopped_keep'])} has {percent(row['stopped_rate'], 2)}{failed}"
    if row["reason"] == "rate":
        return f"{seen}, the limit or more"
    needed = "no number of images" if row["images_needed"] is None else count(row["images_needed"], "image")
    return f"{seen}, shown to be at most {percent(row['stopped_upper'], 2)}; at this rate {needed} would do"


CERTIFIED = (
    text("dataset", "dataset"),
    METHOD,
    Column(
        "smallest certified keep",
        lambda row: "none" if row["keep"] is None else keep_label(row["keep"]),
        lambda row: row["keep"],
        "certified-keep",
    ),
    fine("rate seen", "rate", "rate-seen"),
    fine("upper bound", "upper", "upper-bound"),
    Column("why not less", why, lambda row: row["reason"], "why-not-less", numeric=False),
    whole("n", "n", "n"),
    whole("images", "n_images", "images"),
    decimal("layer-mean tokens", "layer_mean_tokens", "layer-mean"),
)


def certified_table(audit: Audit, rows: list[Row]) -> Table:
    """The smallest certified keep of each model, dataset and method."""
    risk = rows[0]["risk"]
    title = (
        f"The smallest keep shown to have at most {limit(rows)} {NAMES[risk]}, with "
        f"{percent(rows[0]['confidence'], 0)} one-sided confidence in each line by itself"
    )
    return table(f"certificates-{risk.replace('_', '-')}", title, telling(audit, CERTIFIED), rows, how=_how(rows))
