"""The answer in three sentences, written from the data for whatever outcome the data has."""

import math
from typing import Any

from lofi.cell import FLOOR, FULL, KEEP_ALL
from lofi.report.audit import Audit, mean_row, over_datasets, token_share
from lofi.report.page import Finding
from lofi.report.words import (
    correlation,
    count,
    interval,
    keep_phrase,
    listing,
    p_value,
    percent,
    points,
    share_with_interval,
)
from lofi.tables import Row

MID = 0.25
SMALL = 0.01  # one point: below it accuracy is said to hardly move
BUDGET = 0.1  # methods are compared where their layer-mean tokens lie this close to the request


def answer(audit: Audit) -> list[Finding]:
    """What harsh pruning does, which method keeps most answers, what the IPR says."""
    return [harsh(audit), best(audit), spectra(audit)]


def harsh(audit: Audit) -> Finding:
    """What the harshest keep does to accuracy, and what it does to answers."""
    keep = next((k for k in reversed(audit.keeps) if audit.as_loaded(k)), None)
    full = audit.overall.get((FULL, KEEP_ALL))
    if keep is None or full is None:
        return _no_mean(audit)
    rows = audit.as_loaded(keep)
    reduced = mean_row([{**row, "keep": keep} for row in rows], ("keep",))
    if None in (reduced["agreement"], reduced["accuracy"], full["accuracy"]):
        return Finding("Agreement is undefined at the harshest keep.", "Too few samples could be evaluated.")
    before = reduced.get("accuracy_full") or full["accuracy"]  # of the same samples
    change = reduced["accuracy"] - before
    changed = 1 - reduced["agreement"]
    changed_interval = interval(_flip(reduced.get("agreement_high")), _flip(reduced.get("agreement_low")))
    detail = (
        f"Keeping {keep_phrase(keep)} moves accuracy from {percent(before)} to "
        f"{share_with_interval(reduced, 'accuracy')} ({points(change)}) and changes {percent(changed)} "
        f"{changed_interval} of the answers{_per_point(changed, change)}; mean of {count(len(rows), 'method')} on "
        f"{count(len(audit.pairs), 'pair')} of model and dataset, n = {count(reduced['n'], 'answer')}. "
        + floor_phrase(audit)
    )
    return Finding(_harsh_headline(audit, reduced, change, changed), detail)


def _no_mean(audit: Audit) -> Finding:
    if any(audit.at(keep) for keep in audit.keeps):
        return Finding(
            "Tokens were dropped on quantised weights only.",
            "So what dropping them does by itself is unknown; the tables below give both together.",
        )
    return Finding(
        "No keep was run with one method on every model and dataset.",
        "So accuracy and answers cannot be averaged; the tables below give them cell by cell.",
    )


def floor_phrase(audit: Audit) -> str:
    """How many answers a second run of the full model changes."""
    floor = audit.overall.get((FLOOR, KEEP_ALL))
    if floor is None or floor.get("agreement") is None:
        return "The noise floor was not measured on every pair, so some of this may be numerical noise."
    return (
        f"The noise floor, the full model run again under another batch layout, changes "
        f"{percent(1 - floor['agreement'])} (n = {count(floor['n'])})."
    )


def _flip(value: float | None) -> float | None:
    return None if value is None else 1 - value


def _per_point(changed: float, change: float) -> str:
    if abs(change) < SMALL or changed <= abs(change) * 1.05:
        return ""
    return f", {changed / abs(change):.1f} changed answers for each one that accuracy shows"


def _harsh_headline(audit: Audit, reduced: Row, change: float, changed: float) -> str:
    floor = audit.overall.get((FLOOR, KEEP_ALL), {}).get("agreement")
    noise = 0.0 if floor is None else 1 - floor
    least = 1 - (reduced.get("agreement_high") or reduced["agreement"])
    if changed == 0:
        return "The harshest keep changes no answer at all: check that the reducers act."
    if least <= noise:
        return "Even the harshest keep changes no more answers than running the full model twice might."
    if abs(change) < SMALL:
        return f"Accuracy hardly moves at the harshest keep, yet {percent(changed)} of the answers change."
    if change > 0:
        return f"Accuracy rises at the harshest keep, yet {percent(changed)} of the answers change."
    if changed > abs(change) * 1.05:
        cost = points(change).lstrip("\N{MINUS SIGN}")
        return f"The harshest keep costs {cost} of accuracy but changes {percent(changed)} of the answers."
    return f"At the harshest keep nearly every changed answer ({percent(changed)}) shows as lost accuracy."


def mid_keep(audit: Audit) -> str | None:
    """The keep nearest to a quarter at which most methods can be compared."""
    candidates = [keep for keep in audit.keeps if audit.as_loaded(keep)]
    if not candidates:
        return None

    def rank(keep: str) -> tuple[int, float, str]:
        rows = comparable(audit, keep)
        share = audit.as_loaded(keep)[0].get("keep_ratio") or MID
        return (-len(rows), round(abs(math.log(share / MID)), 9), keep)

    return min(candidates, key=rank)


def comparable(audit: Audit, keep: str) -> list[Row]:
    """Methods at one keep on the same weights whose layer-mean tokens match the request: equal work and terms."""
    rows = []
    for row in audit.as_loaded(keep):
        share, asked = token_share(row), row.get("keep_ratio")
        if row.get("agreement") is not None and (not share or not asked or abs(share / asked - 1) <= BUDGET):
            rows.append(row)
    return rows


def best(audit: Audit) -> Finding:
    """Which method keeps most answers at a middle keep, and whether it beats random."""
    keep = mid_keep(audit)
    rows = comparable(audit, keep) if keep else []
    if keep is None or not rows:
        return Finding(
            "Methods cannot be compared on this sweep.",
            "There is no keep below 1 at which a method was run on every model and dataset, its weights as loaded, "
            "at the layer-mean asked for.",
        )
    top = max(row["agreement"] for row in rows)
    winners = [row for row in rows if math.isclose(row["agreement"], top, abs_tol=1e-12)]
    names = [row["method"] for row in winners]
    where = f"With {keep_phrase(keep)}"
    left_out = [r["method"] for r in audit.as_loaded(keep) if r["method"] not in {row["method"] for row in rows}]
    aside = f" Left out, because their layer-mean differs from the keep: {listing(left_out)}." if left_out else ""
    detail = (
        f"{listing(names)} {'keeps' if len(names) == 1 else 'keep'} "
        f"{share_with_interval(winners[0], 'agreement')} of the full model's answers "
        f"(n = {count(winners[0]['n'])})" + _runner_up(rows, winners)
    )
    others = [row for row in rows if row["method"] == audit.random]
    if len(rows) == 1:
        return Finding(f"{where}, {names[0]} was the only method to compare.", f"{detail}.{aside}")
    if not others:
        return Finding(
            f"{where}, {_most(names)}.", f"{detail}. Random was not run, so the gain over it is unknown.{aside}"
        )
    if audit.random in names:
        headline = f"{where}, no method beats random."
        return Finding(headline, f"{detail}.{aside}")
    headline, versus = _versus_random(audit, keep, winners[0], others[0])
    return Finding(f"{where}, {_most(names)}{headline}.", f"{detail}; {versus}.{aside}")


def _most(names: list[str]) -> str:
    return f"{names[0]} keeps the most answers" if len(names) == 1 else f"{listing(names)} tie for most answers kept"


def _runner_up(rows: list[Row], winners: list[Row]) -> str:
    rest = [row for row in rows if row not in winners]
    if not rest:
        return ""
    second = max(rest, key=lambda row: row["agreement"])
    low = winners[0].get("agreement_low")
    near = [r for r in rest if low is None or r.get("agreement_high") is None or r["agreement_high"] >= low]
    overlap = (
        f"the intervals of {count(len(near), 'other method')} overlap with that" if near else "no interval overlaps"
    )
    return f"; next is {second['method']} with {share_with_interval(second, 'agreement')}, and {overlap}"


def _versus_random(audit: Audit, keep: str, winner: Row, random: Row) -> tuple[str, str]:
    """The end of the headline and of the detail: the paired difference where it is known, else both intervals."""
    gain, low, high = paired_difference(audit, keep, winner["method"])
    how = "paired by image"
    if gain is None:
        gain = winner["agreement"] - random["agreement"]
        how = "the intervals' bounds subtracted"
        bounds: list[Any] = [r.get(f"agreement_{end}") for r in (winner, random) for end in ("low", "high")]
        if None not in bounds:
            low, high = bounds[0] - bounds[3], bounds[1] - bounds[2]
    text = f"random keeps {share_with_interval(random, 'agreement')}, a difference of {points(gain)} "
    text += f"{interval(low, high)} ({how})"
    if low is None:
        return ", but whether it beats random is undefined", text
    return (", more than random", text) if low > 0 else (", but not clearly more than random", text)


def paired_difference(audit: Audit, keep: str, method: str) -> tuple[float | None, float | None, float | None]:
    """Agreement of `method` minus that of random, averaged over all pairs, from the paired comparisons."""
    rows = [
        row
        for row in audit.comparisons
        if row["keep"] == keep and row["method"] == method and row["versus"] == audit.random
    ]
    found = {(row["model"], row["dataset"]) for row in rows}
    if found != set(audit.pairs) or any(row[c] is None for row in rows for c in ("difference", "low", "high")):
        return None, None, None
    named = [{**row, "difference_low": row["low"], "difference_high": row["high"]} for row in rows]
    mean = over_datasets(named, ("keep", "method", "versus"))
    return mean["difference"], mean["difference_low"], mean["difference_high"]


def spectra(audit: Audit) -> Finding:
    """What the shift of the IPR says about answers among methods at one model, dataset and keep."""
    leading = audit.primary("within_model_dataset_keep")
    pooled = audit.primary("pooled")
    if leading is None or leading["pearson"] is None:
        note = (leading or {}).get("note") or "there must be at least two methods at one keep with spectra"
        return Finding("This sweep cannot test the IPR claim.", f"The correlation is undefined: {note}.")
    size = f"{count(leading['n_cells'], 'cell')} in {count(leading['n_groups'], 'group')}"
    detail = (
        f"Within (model, dataset, keep), the shift of log IPR_U and agreement have {correlation(leading)}, "
        f"{p_value(leading['p'])}{_by_methods(leading)} ({size})"
    )
    if pooled is not None:
        detail += f"; pooled over all cells it is {correlation(pooled)}, which the keep alone can produce"
    if (raw := _raw_ipr(audit)) is not None:
        detail += f". Raw IPR, as in the paper, has {correlation(raw)} at equal keep"
    return Finding(_spectra_headline(leading), detail + ".")


def _by_methods(leading: Row) -> str:
    p = leading.get("p_methods")
    return "" if p is None else f", and {p_value(p)} where whole methods are exchanged"


def _raw_ipr(audit: Audit) -> Row | None:
    """The leading correlation with the paper's own statistic: same site and tokens, not centred, moved by the count."""
    wanted = {"scope": "within_model_dataset_keep", "delta": "dlog", "statistic": "ipr", "site": "projector"}
    wanted |= {"tokens": "visual"}
    rows = [c for c in audit.correlations if not c["centred"] and all(c[k] == v for k, v in wanted.items())]
    return next((row for row in rows if row["pearson"] is not None), None)


def _spectra_headline(leading: Row) -> str:
    p, r, by_methods = leading["p"], leading["pearson"], leading.get("p_methods")
    if p is None:
        return "Whether the shift of the IPR predicts lost answers is undecided: its p value is undefined."
    if p >= 0.05:
        return "At equal keep, no link between the shift of the IPR and lost answers was found."
    if by_methods is not None and by_methods >= 0.05:
        return (
            f"At equal keep, a rise of the IPR goes with {'fewer' if r < 0 else 'more'} kept answers, but no more "
            "than exchanging whole methods can bring about."
        )
    if r < 0:
        return "At equal keep, methods that raise the IPR more keep fewer answers."
    return "At equal keep, methods that raise the IPR more keep more answers: the reverse of the claim."
