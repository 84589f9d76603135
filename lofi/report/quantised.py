"""What quantised weights do to answers, alone and together with dropped tokens."""

from lofi.cell import KEEP_ALL
from lofi.report.audit import Audit
from lofi.report.page import Finding
from lofi.report.sentences import floor_phrase, mid_keep
from lofi.report.words import count, keep_phrase, listing, percent, share_with_interval, weights_label
from lofi.tables import Row

NAMED = 4  # methods named in one sentence


def answer(audit: Audit) -> Finding | None:
    """One sentence more for a sweep with quantised weights."""
    if not audit.quantised:
        return None
    alone = [row for row in audit.at(KEEP_ALL) if row["agreement"] is not None]
    if not alone:
        return Finding(
            "What quantised weights change by themselves is unknown.",
            "No method keeps every visual token on quantised weights and ran on every model and dataset."
            + _together(audit),
        )
    changed = [f"{_weights(audit, row)} weights change {percent(1 - row['agreement'])}" for row in alone[:NAMED]]
    kept = [f"{row['method']} keeps {share_with_interval(row, 'agreement')}" for row in alone[:NAMED]]
    detail = f"{listing(kept)} of the answers, n = {count(min(row['n'] for row in alone))} each. {floor_phrase(audit)}"
    return Finding(f"With every visual token kept, {listing(changed)} of the answers.", detail + _together(audit))


def _weights(audit: Audit, row: Row) -> str:
    return weights_label(audit.quantised[row["method"]])


def _together(audit: Audit) -> str:
    """Methods that drop tokens on quantised weights, beside the same on the weights as loaded."""
    keep = mid_keep(audit)
    rows = {row["method"]: row for row in audit.at(keep) if row["agreement"] is not None} if keep else {}
    texts: dict[str, list[str]] = {}
    for method, twin in audit.twins.items():
        if method in rows and twin in rows:
            first = f"{twin} keeps {percent(rows[twin]['agreement'])} as loaded"
            texts.setdefault(twin, [first]).append(
                f"{percent(rows[method]['agreement'])} on {_weights(audit, rows[method])}"
            )
    if keep is None or not texts:
        return ""
    named = "; ".join(listing(parts) for parts in list(texts.values())[:NAMED])
    return f" With {keep_phrase(keep)}: {named}."
