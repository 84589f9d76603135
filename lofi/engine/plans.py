"""Cells to evaluate, and how their samples are laid out in a batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lofi.cell import Cell
from lofi.engine.batch import Batch
from lofi.engine.select import Selected, keep_all, select_batch
from lofi.engine.session import Session
from lofi.methods.registry import get_reducer
from lofi.sweep import MethodSpec


@dataclass(frozen=True)
class Plan:
    """A cell to evaluate: its method, and the hash of the method's parameters."""

    cell: Cell
    method: MethodSpec
    params_hash: str


def layouts(whole: Batch, plans: Sequence[Plan], size: int) -> Iterator[tuple[Batch, list[Plan]]]:
    """All questions of an image behind one prefix where the method is blind to them, else one question to a row."""
    groups: dict[bool, list[Plan]] = {False: [], True: []}
    for plan in plans:
        reducer = get_reducer(plan.method.reducer)
        groups[reducer.sees_text or reducer.acts == "llm"].append(plan)
    if groups[False]:
        yield whole, groups[False]
    if groups[True]:
        for batch in whole.by_sample(size):
            yield batch, groups[True]


def selections(session: Session, batch: Batch, plans: Sequence[Plan]) -> Iterator[tuple[Plan, Selected]]:
    """What each plan lets into the LLM."""
    by_cell = {plan.cell: plan for plan in plans}
    before = [plan for plan in plans if get_reducer(plan.method.reducer).acts != "llm"]
    cells = [(plan.cell, plan.method) for plan in before]
    fitted = {method: fit.params for method, fit in session.fitted.items()}
    for selected in select_batch(session.adapter, batch, cells, fitted):
        yield by_cell[selected.cell], selected
    for plan in plans:
        if plan not in before:
            # the whole prompt enters the decoder; its stages then place what they keep
            yield plan, keep_all(batch, plan.cell, "kept")
