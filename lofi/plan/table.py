"""A plan as text: a table, and on what it rests."""

from collections import defaultdict
from collections.abc import Iterator

from lofi.plan.asked import PICTURE, QUESTION_TOKENS
from lofi.plan.plan import ModelPlan, Plan
from lofi.plan.rates import UNTIMED

HEADER = ("model", "cells", "answers", "jobs", "PFLOP", "hours", "results", "weights")
SPLITTING = ("internvl", "smolvlm", "idefics3")  # cut pictures in pieces, as their processors are set
UNKNOWN = "?"


def lines(plan: Plan) -> Iterator[str]:
    """The table, what the datasets ask, and last what the hours rest on."""
    rows = [HEADER, *(_row(model) for model in plan.models), _total(plan)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    for name, *cells in rows:
        numbers = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        yield "  ".join([name.ljust(widths[0]), *numbers])
    yield ""
    for name, asked in plan.asked.items():
        source = "prepared" if asked.prepared else "by its card"
        yield f"{name}: {asked.questions:,} questions about {asked.images:,} images ({source})"
    yield "The cell cache is hard links to the same bytes as results; where a disk has none, it takes as many again."
    yield from _apart(plan)
    yield " ".join(_rests_on(plan))


def _apart(plan: Plan) -> Iterator[str]:
    """What sharing saves."""
    known = [(model.work.total, model.apart.total) for model in plan.models if model.work and model.apart]
    if known:
        shared, apart = (sum(totals) for totals in zip(*known, strict=True))
        total = _short(apart / 1e15)
        yield f"One answer at a time, nothing shared, it would be {total} PFLOP: {apart / shared:.1f} times as much."


def _row(model: ModelPlan) -> tuple[str, ...]:
    return (
        model.name,
        f"{model.cells:,}",
        f"{model.answers:,}",
        f"{model.jobs:,}",
        UNKNOWN if model.work is None else _short(model.work.total / 1e15),
        UNKNOWN if model.seconds is None else _short(model.seconds / 3600),
        _size(model.results),
        UNKNOWN if model.weights is None else _size(model.weights),
    )


def _total(plan: Plan) -> tuple[str, ...]:
    """Everything together; a sum that lacks a model says so."""
    models, known = plan.models, [model for model in plan.models if model.name not in plan.missing]
    more = f" + {UNKNOWN}" if plan.missing else ""

    def told(text: str) -> str:
        return text + more if known else UNKNOWN

    return (
        "in all",
        f"{sum(model.cells for model in models):,}",
        f"{sum(model.answers for model in models):,}",
        f"{sum(model.jobs for model in models) + plan.shared_jobs:,}",
        told(_short(sum(model.work.total for model in known if model.work) / 1e15)),
        told(_short(sum(model.seconds or 0.0 for model in known) / 3600)),
        _size(sum(model.results for model in models)),
        told(_size(sum(model.weights or 0 for model in known))),
    )


def _rests_on(plan: Plan) -> Iterator[str]:
    bases: defaultdict[str, list[str]] = defaultdict(list)
    for model in plan.models:
        if model.basis:
            bases[model.basis].append(model.name)
    said = "; ".join(f"{', '.join(names)}: {basis}" for basis, names in bases.items())
    yield f"Hours of one job at a time on one device: {said or 'no model can be counted'}."
    yield (
        f"{UNTIMED:.0%} is added for what no stored timing covers (loading, spectra, comparing, writing): as much as a "
        "run on CPUs took; on a GPU the spectra, which are float64, may take more."
    )
    if any(not asked.prepared for asked in plan.asked.values()):
        yield (
            f"Where a dataset is not prepared, pictures of {PICTURE[0]} x {PICTURE[1]}, questions of "
            f"{QUESTION_TOKENS:g} tokens and the longest answers are assumed."
        )
    if pieces := [model.name for model in plan.models if model.family in SPLITTING]:
        yield f"Pictures of {', '.join(pieces)} count as one piece each, so the hours are a lower bound."


def _short(value: float) -> str:
    """Three digits, as a person would write them."""
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.001 or not value else f"{value:.0e}"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{_short(count)} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1000
    return f"{_short(count)} TB"


def missing_line(plan: Plan, sweep: str) -> str:
    """What is missing, and how to get it."""
    names = ", ".join(plan.missing)
    return (
        f"{len(plan.missing)} of {len(plan.models)} models have no hours, because their config.json is not on this "
        f"machine: {names}; fetch each where there is a network, with "
        f"`lofi prepare --config {sweep} --without-weights --model {plan.missing[0]}`, and plan again"
    )
