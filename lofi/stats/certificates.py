"""Certificates: the smallest keep at which a method is shown to go wrong less often than a limit allows."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from lofi.cell import FLOOR
from lofi.errors import UserError
from lofi.stats.query import as_csv, as_json, as_table
from lofi.stats.risks import CONFIDENCE, Counts, bounded, counts_of, images_needed, upper_bound
from lofi.stats.tables import risks_of

LIMITS = {"negative_flip": 0.02, "divergence": 0.05}  # of the table `certificates`; `lofi certify` takes any


@dataclass(frozen=True)
class Measured:
    """One row of the table `risks`: how often a cell went wrong. Counts are None where no sample has a grade."""

    model: str
    dataset: str
    method: str
    keep: str
    seed: int
    layer_mean_tokens: float | None
    risk: str
    n: int
    n_images: int
    n_errors: int
    counts: Counts | None


_AXES = [field.name for field in fields(Measured) if field.name != "counts"]


@dataclass(frozen=True)
class Certificate:
    """The last keep of a sequence from mild to harsh that passed, and the first that did not; None where there is none.

    reason: why it did not pass: `rate` (it is not below the limit), `images` (too few), `grades` (there are none).
    """

    model: str
    dataset: str
    method: str
    risk: str
    max_rate: float
    confidence: float
    keep: str | None
    layer_mean_tokens: float | None
    rate: float | None
    upper: float | None
    n: int
    n_images: int
    stopped_keep: str | None
    stopped_rate: float | None
    stopped_upper: float | None
    stopped_errors: int | None
    reason: str | None
    images_needed: int | None


@dataclass(frozen=True)
class _Step:
    """One keep: the seed with the highest bound stands for all, since each of them must pass."""

    worst: Measured
    tokens: float  # the most of any seed; infinite where every sample failed
    upper: float


CERTIFICATES = pa.schema(
    [
        *((name, pa.string()) for name in ("model", "dataset", "method", "risk")),
        *((name, pa.float64()) for name in ("max_rate", "confidence")),
        ("keep", pa.string()),
        *((name, pa.float64()) for name in ("layer_mean_tokens", "rate", "upper")),
        *((name, pa.int64()) for name in ("n", "n_images")),
        ("stopped_keep", pa.string()),
        *((name, pa.float64()) for name in ("stopped_rate", "stopped_upper")),
        ("stopped_errors", pa.int64()),
        ("reason", pa.string()),
        ("images_needed", pa.int64()),
    ]
)


def measured(rows: Iterable[dict[str, Any]]) -> list[Measured]:
    """From rows of the table `risks`."""
    return [
        Measured(**{name: row[name] for name in _AXES}, counts=counts_of(row["patterns"]) if row["patterns"] else None)
        for row in rows
    ]


def certify(found: Sequence[Measured], risk: str, max_rate: float, confidence: float) -> list[Certificate]:
    """One certificate for each (model, dataset, method)."""
    if not 0 < max_rate < 1:
        raise UserError(f"a limit of {max_rate:g} is no share between 0 and 1; write 0.02 for 2 %")
    if not 0.5 <= confidence < 1:
        raise UserError(f"a confidence of {confidence:g} is outside [0.5, 1); write 0.95 for 95 %")
    chosen = sorted(
        (each for each in found if each.risk == risk and each.method != FLOOR),
        key=lambda each: (each.model, each.dataset, each.method, each.keep, each.seed),
    )
    methods = groupby(chosen, key=lambda each: (each.model, each.dataset, each.method))
    return [_certificate(list(_steps(cells, confidence)), max_rate, confidence) for _, cells in methods]


def make(con: duckdb.DuckDBPyConnection) -> None:
    """Make the tables `risks` and `certificates`."""
    found = bounded(con)
    for name, table in (("risks", found), ("certificates", default_table(measured(found.to_pylist())))):
        con.register(f"made_{name}", table)
        con.execute(f"CREATE TABLE {name} AS FROM made_{name}")


def default_table(found: Sequence[Measured]) -> pa.Table:
    """The table `certificates`: every risk in `LIMITS` at its own limit."""
    rows = [asdict(each) for risk, limit in LIMITS.items() for each in certify(found, risk, limit, CONFIDENCE)]
    return pa.Table.from_pylist(rows, schema=CERTIFICATES)


def _steps(cells: Iterable[Measured], confidence: float) -> Iterator[_Step]:
    """The keeps of one method. cells: sorted by keep."""
    for _, seeds in groupby(cells, key=lambda each: each.keep):
        bounds = [(upper_bound(each.counts, confidence) if each.counts else 1.0, each) for each in seeds]
        upper, worst = max(bounds, key=lambda bound: bound[0])
        tokens = [each.layer_mean_tokens for _, each in bounds]
        yield _Step(worst, max(float("inf") if each is None else each for each in tokens), upper)


def _certificate(steps: Sequence[_Step], max_rate: float, confidence: float) -> Certificate:
    """Test from mild to harsh, each at the full confidence, and stop at the first that fails.

    The order is by tokens, not by outcome. So a wrong certificate needs the mildest keep that breaks the limit to pass,
    and the chance of that one event bounds the chance of any.
    """
    passed, stopped = None, None
    for step in sorted(steps, key=lambda each: (-each.tokens, each.worst.keep)):
        if step.worst.counts is None or step.upper > max_rate:
            stopped = step
            break
        passed = step
    shown = passed or steps[0]
    reason, needed = _why(stopped, max_rate, confidence) if stopped else (None, None)
    return Certificate(
        model=shown.worst.model,
        dataset=shown.worst.dataset,
        method=shown.worst.method,
        risk=shown.worst.risk,
        max_rate=max_rate,
        confidence=confidence,
        keep=passed.worst.keep if passed else None,
        layer_mean_tokens=passed.worst.layer_mean_tokens if passed else None,
        rate=_rate(passed),
        upper=passed.upper if passed else None,
        n=shown.worst.n,
        n_images=shown.worst.n_images,
        stopped_keep=stopped.worst.keep if stopped else None,
        stopped_rate=_rate(stopped),
        stopped_upper=stopped.upper if stopped and stopped.worst.counts else None,
        stopped_errors=stopped.worst.n_errors if stopped else None,
        reason=reason,
        images_needed=needed,
    )


def _rate(step: _Step | None) -> float | None:
    return step.worst.counts.rate if step and step.worst.counts else None


def _why(step: _Step, max_rate: float, confidence: float) -> tuple[str, int | None]:
    """Why a keep did not pass, and how many images would have let the same rate pass."""
    counts = step.worst.counts
    if counts is None:
        return "grades", None
    if counts.rate >= max_rate:
        return "rate", None
    return "images", images_needed(counts, max_rate, confidence)


def read(tables: Path) -> list[Measured]:
    """The table `risks`, as far as certificates need it."""
    return measured(risks_of(tables, [*_AXES, "patterns"]))


def as_text(found: Sequence[Certificate], format: str) -> str:
    """All columns as csv or json, or a table to read: the certified keep and why the next one is not."""
    if not found:
        raise UserError(
            "the tables hold no reduced cell, so there is nothing to certify; evaluate a method beside full"
        )
    if format != "table":
        write = {"csv": as_csv, "json": as_json}[format]
        return write(CERTIFICATES.names, [tuple(asdict(each).values()) for each in found])
    names = ["model", "dataset", "method", "keep", "tokens", "rate", "upper", "n", "images", "why not less"]
    rows = [
        (
            *(each.model, each.dataset, each.method, each.keep or "none"),
            *(each.layer_mean_tokens, each.rate, each.upper, each.n, each.n_images, _next(each)),
        )
        for each in found
    ]
    risk, limit = found[0].risk.replace("_", " "), _percent(found[0].max_rate)
    headline = (
        f"the smallest keep shown to have a {risk} rate of at most {limit}, "
        f"with {_percent(found[0].confidence)} one-sided confidence in each line by itself"
    )
    return f"{headline}\n\n{as_table(names, rows)}"


def _next(each: Certificate) -> str:
    """Why the first keep that did not pass did not."""
    if each.stopped_keep is None:
        return "the sweep has no smaller keep"
    if each.stopped_rate is None or each.stopped_upper is None:
        return "no sample has a grade"
    failed = f" ({each.stopped_errors} failed samples among them)" if each.stopped_errors else ""
    rate = f"keep {each.stopped_keep} has {_percent(each.stopped_rate)}{failed}"
    if each.reason == "rate":
        return f"{rate}, the limit or more"
    needed = "no number of images" if each.images_needed is None else f"{each.images_needed} images"
    return f"{rate}, shown to be at most {_percent(each.stopped_upper)}; at this rate {needed} would do"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
