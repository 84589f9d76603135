"""The gate: rules that say how close to its full cell every reduced cell must stay."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from lofi.cell import FLOOR, FULL
from lofi.errors import UserError, unknown
from lofi.stats.tables import risks_of


@dataclass(frozen=True)
class Rule:
    """A limit on one rate. `at_least`: the rate is the share of samples on which the risk did not come true."""

    name: str
    risk: str
    limit: float
    at_least: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.limit <= 1:
            raise UserError(f"{self.name} {self.limit:g} is outside [0, 1]; write a share, such as 0.05 for 5 %")

    def __str__(self) -> str:
        return f"{self.name} {'at least' if self.at_least else 'at most'} {self.limit:g}"

    def met_by(self, value: float) -> bool:
        """Whether the rate is on the right side of the limit, or on it."""
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True)
class Measurement:
    """What the gate reads of the table `risks`. Rates are None where no sample has a grade."""

    model: str
    dataset: str
    method: str
    keep: str
    seed: int
    risk: str
    n: int
    n_errors: int
    n_events: int | None
    upper: float | None


@dataclass(frozen=True)
class Verdict:
    """One rule held against one cell. `bound` is how bad the rate may still be, with a one-sided confidence of 95 %."""

    model: str
    dataset: str
    method: str
    keep: str
    seed: int
    rule: str
    limit: float
    value: float | None
    bound: float | None
    n: int
    n_errors: int
    passed: bool


def rules_of(
    *, max_flip_rate: float | None, min_agreement: float | None, max_negative_flips: float | None
) -> list[Rule]:
    """Those that were asked for; None was not."""
    rules = [
        *([] if max_flip_rate is None else [Rule("flip rate", "flip", max_flip_rate)]),
        *([] if min_agreement is None else [Rule("agreement", "divergence", min_agreement, at_least=True)]),
        *([] if max_negative_flips is None else [Rule("negative flips", "negative_flip", max_negative_flips)]),
    ]
    if not rules:
        raise UserError("no limit was given; give --max-flip-rate, --min-agreement or --max-negative-flips")
    return rules


def read(tables: Path, reference: str) -> list[Measurement]:
    """The measurements of all cells against a reference, which can only be the full model."""
    if reference != FULL:
        raise UserError(f"reference {reference!r} is not what the tables compare with; use --reference {FULL}")
    names = [field.name for field in fields(Measurement)]
    return [Measurement(**row) for row in risks_of(tables, names)]


def chosen(found: Sequence[Measurement], methods: Sequence[str], keeps: Sequence[str]) -> list[Measurement]:
    """Those of these methods and keeps. Without methods: of all but the floor; without keeps: of all."""
    _check_known("method", methods, {each.method for each in found})
    _check_known("keep", keeps, {each.keep for each in found})
    left = [
        each
        for each in found
        if (each.method in methods if methods else each.method != FLOOR) and (not keeps or each.keep in keeps)
    ]
    if not left:
        raise UserError("no cell of the tables has this method and keep, so nothing was checked; give others, or none")
    return left


def _check_known(kind: str, names: Sequence[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise unknown(kind, name, known)


def judge(found: Sequence[Measurement], rules: Sequence[Rule], *, confident: bool) -> list[Verdict]:
    """Every rule held against every cell. confident: against the bound in place of the rate."""
    return [_verdict(each, rule, confident) for each in found for rule in rules if rule.risk == each.risk]


def _verdict(each: Measurement, rule: Rule, confident: bool) -> Verdict:
    """What is not known does not pass."""
    value, bound = None, None
    if each.n_events is not None and each.upper is not None:
        # from whole numbers, so that 19 of 20 are 0.95 and not a rounding less
        value = (each.n - each.n_events if rule.at_least else each.n_events) / each.n
        bound = 1 - each.upper if rule.at_least else each.upper
    judged = bound if confident else value
    return Verdict(
        model=each.model,
        dataset=each.dataset,
        method=each.method,
        keep=each.keep,
        seed=each.seed,
        rule=rule.name,
        limit=rule.limit,
        value=value,
        bound=bound,
        n=each.n,
        n_errors=each.n_errors,
        passed=judged is not None and rule.met_by(judged),
    )
