"""Two at a time: method against method at one keep, and every method against the full model, on the same images."""

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations

import numpy as np
import pyarrow as pa

from lofi.cell import FLOOR, FULL, OWN_COUNT
from lofi.stats.blocks import Block
from lofi.stats.exact import TAILS, mcnemar, swap_p
from lofi.stats.multiplicity import benjamini_hochberg, holm
from lofi.stats.resample import Booleans, Floats, Integers, acceleration, bca_interval

RATE_OF = {"agreement": "agreement", "correct": "accuracy"}  # basis -> the rate that is compared


@dataclass(frozen=True)
class Tested:
    """The exact tests of a comparison, on the samples that ran in every seed of both. None: not defined."""

    n: int
    p: float | None  # swapping the two within every image
    only_method: int | None = None  # where one seed of each is compared: samples that only `method` has ...
    only_versus: int | None = None  # ... and that only `versus` has
    mcnemar: float | None = None
    mcnemar_mid: float | None = None


@dataclass(frozen=True)
class Comparison:
    """`method` less `versus` in one rate, the seeds of a method pooled. None: not defined."""

    model: str
    dataset: str
    keep: str
    basis: str  # of `RATE_OF`
    method: str
    versus: str
    difference: float | None
    low: float | None
    high: float | None
    tested: Tested
    n_images: int  # with a sample of both

    @property
    def family(self) -> tuple[str, str, str, bool]:
        """What it is corrected with."""
        return self.model, self.dataset, self.basis, self.versus == FULL

    def reversed(self) -> "Comparison":
        """The same with the sides swapped."""
        return replace(
            self,
            method=self.versus,
            versus=self.method,
            difference=_minus(self.difference),
            low=_minus(self.high),
            high=_minus(self.low),
            tested=replace(self.tested, only_method=self.tested.only_versus, only_versus=self.tested.only_method),
        )


COMPARISONS = pa.schema(
    [
        *((field.name, pa.string()) for field in fields(Comparison)[:6]),
        *((name, pa.float64()) for name in ("difference", "low", "high", "p")),
        ("p_holm", pa.float64()),  # within (model, dataset, basis), those against full by themselves
        ("p_bh", pa.float64()),  # over all models and datasets, as far as basis and kind are the same
        ("n_tests", pa.int64()),  # of the family of p_holm
        *((name, pa.int64()) for name in ("n", "only_method", "only_versus")),
        *((name, pa.float64()) for name in ("mcnemar", "mcnemar_mid")),
        ("n_images", pa.int64()),
    ]
)


def compared(block: Block) -> list[Comparison]:
    """Every pair of methods once, and every method against full."""
    methods = range(len(block.methods))
    free = [at for at in methods if block.methods[at] not in (FULL, FLOOR) and block.keep != OWN_COUNT]
    treated = [at for at in methods if block.methods[at] != FULL]
    pairs: list[tuple[int, int | None]] = [*combinations(free, 2)]
    against_full: list[tuple[int, int | None]] = [(at, None) for at in treated]
    return [
        *_compare(block, pairs, "agreement"),
        *_compare(block, pairs, "correct"),
        *_compare(block, against_full, "correct"),
    ]


def as_table(comparisons: Sequence[Comparison]) -> pa.Table:
    """All comparisons of a sweep with adjusted p values; those of two methods in both directions."""
    p = np.array([np.nan if each.tested.p is None else each.tested.p for each in comparisons])
    p_holm, p_bh = np.full(len(p), np.nan), np.full(len(p), np.nan)
    families = _places([each.family for each in comparisons])
    for places in families.values():
        p_holm[places] = holm(p[places])
    for places in _places([each.family[2:] for each in comparisons]).values():
        p_bh[places] = benjamini_hochberg(p[places])
    n_tests = {family: int(np.isfinite(p[places]).sum()) for family, places in families.items()}
    rows = []
    for each, corrected, scanned in zip(comparisons, p_holm, p_bh, strict=True):
        added = {"p_holm": _known(corrected), "p_bh": _known(scanned), "n_tests": n_tests[each.family]}
        both = [each] if each.versus == FULL else [each, each.reversed()]
        rows += [{**vars(one), **vars(one.tested), **added} for one in both]
    rows.sort(key=lambda row: tuple(str(row[name]) for name in COMPARISONS.names[:6]))
    return pa.Table.from_pylist(rows, schema=COMPARISONS)


def _compare(block: Block, pairs: Sequence[tuple[int, int | None]], basis: str) -> list[Comparison]:
    """Compare pairs of methods by their places in the block; None is the full model, on the other one's samples."""
    if not pairs:
        return []
    difference, low, high = _intervals(block, pairs, RATE_OF[basis])
    tested = _tests(block, pairs, basis)
    return [
        Comparison(
            block.model,
            block.dataset,
            block.keep,
            basis,
            block.methods[method],
            FULL if versus is None else block.methods[versus],
            difference=_known(difference[at]),
            low=_known(low[at]),
            high=_known(high[at]),
            tested=tested[at],
            n_images=_images(block, (method, versus), RATE_OF[basis]),
        )
        for at, (method, versus) in enumerate(pairs)
    ]


def _intervals(block: Block, pairs: Sequence[tuple[int, int | None]], rate: str) -> tuple[Floats, Floats, Floats]:
    """Differences and their bounds, each (pairs,)."""
    difference, drawn, accelerations = _differences(block, pairs, rate)
    low, high = bca_interval(drawn, difference, accelerations)
    images = np.array([_images(block, pair, rate) for pair in pairs])
    # What no draw moves may still differ in images that were not seen: by at most the exact bound of none in so many.
    unseen = 1 - TAILS[0] ** (1 / np.maximum(images, 1))
    still = np.ptp(drawn, axis=0) == 0
    low = np.where(still, np.maximum(difference - unseen, -1), low)
    high = np.where(still, np.minimum(difference + unseen, 1), high)
    low[images < 2] = high[images < 2] = np.nan
    return difference, low, high


def _differences(block: Block, pairs: Sequence[tuple[int, int | None]], rate: str) -> tuple[Floats, Floats, Floats]:
    """Differences of a rate: observed (pairs,), in every draw (draws, pairs), and their accelerations (pairs,)."""
    sums = block.of_methods

    def less(of: Floats, of_full: Floats) -> Iterator[Floats]:
        return (of[..., a] - (of_full[..., a] if b is None else of[..., b]) for a, b in pairs)

    observed = np.array(list(less(sums.observed(rate), sums.observed("accuracy_full"))))
    drawn = np.stack(list(less(sums.in_draws(rate), sums.in_draws("accuracy_full"))), axis=1)
    left_out = less(sums.left_out(rate), sums.left_out("accuracy_full"))
    accelerations = np.concatenate([acceleration(one[:, None]) for one in left_out])
    return observed, drawn, accelerations


def _images(block: Block, pair: tuple[int, int | None], rate: str) -> int:
    """Images with a sample of both."""
    _, samples = block.of_methods.parts(rate)
    first, second = pair[0], pair[0] if pair[1] is None else pair[1]
    return int(np.count_nonzero((samples[:, first] > 0) & (samples[:, second] > 0)))


@dataclass(frozen=True)
class _Outcomes:
    """Which samples ran in every seed, in how many seeds each is a hit, and how many seeds there are."""

    ran: Booleans
    hits: Integers
    n_seeds: int


def _outcomes(block: Block, basis: str) -> list[_Outcomes]:
    """Of every method of a block."""
    answers = block.answers
    known, hit = {"agreement": (answers.ran, answers.agrees), "correct": (answers.graded, answers.correct)}[basis]
    members = [list(cells) for cells in block.members]
    return [_Outcomes(np.logical_and.reduce(known[cells]), hit[cells].sum(axis=0), len(cells)) for cells in members]


def _tests(block: Block, pairs: Sequence[tuple[int, int | None]], basis: str) -> list[Tested]:
    """The exact tests of every pair."""
    outcomes, cluster = _outcomes(block, basis), block.answers.cluster
    found = []
    for method, versus in pairs:
        first = outcomes[method]
        grades = block.answers.full_correct[block.members[method][0]]  # the full model's, on this method's samples
        second = _Outcomes(first.ran, grades.astype(np.int64), 1) if versus is None else outcomes[versus]
        found.append(_tested(first, second, cluster))
    return found


def _tested(first: _Outcomes, second: _Outcomes, cluster: Integers) -> Tested:
    """The exact tests, on the samples that ran in every seed of both."""
    common = first.ran & second.ran
    n = int(np.count_nonzero(common))
    if not n:
        return Tested(0, None)
    unit = math.lcm(first.n_seeds, second.n_seeds)
    # In units of 1 / lcm of the seeds' numbers, differences of means over seeds are whole.
    differences = common * (first.hits * (unit // first.n_seeds) - second.hits * (unit // second.n_seeds))
    p = swap_p(np.bincount(cluster, differences).astype(np.int64))
    if unit > 1:
        return Tested(n, p)
    only_method, only_versus = int(np.count_nonzero(differences > 0)), int(np.count_nonzero(differences < 0))
    return Tested(n, p, only_method, only_versus, *mcnemar(only_method, only_versus))


def _places(keys: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    """Where each key stands."""
    places: dict[Hashable, list[int]] = {}
    for at, key in enumerate(keys):
        places.setdefault(key, []).append(at)
    return places


def _known(value: float) -> float | None:
    """NaN to None."""
    return float(value) if np.isfinite(value) else None


def _minus(value: float | None) -> float | None:
    return None if value is None else -value
