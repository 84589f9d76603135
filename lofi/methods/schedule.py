"""When a reducer inside the LLM prunes, and to how many tokens: solved for a budget. Light: no torch.

Two budgets exist. `tokens` is the count after the last prune. `layer_mean` is the mean, over the decoder's layers,
of the visual tokens that enter each: what a method inside the LLM costs, whatever its stages are. Counts are whole,
so a mean is met to within what one token more or less at a stage changes; a method that drops all at one layer
meets it to within half a layer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor

from lofi.errors import UserError
from lofi.methods.fitprune_table import TABLE_TOKENS, table_counts

PAPER_DEPTH = 32  # decoder layers of the models that the papers name their layers for
HALVINGS = 60  # of an interval: more than a float has bits
SHARES = 10_000  # a keep has four decimals


@dataclass(frozen=True)
class Stage:
    """Before decoder layer `layer`, the visual tokens are cut to `count`."""

    layer: int
    count: int


@dataclass(frozen=True)
class Staged:
    """Stages before some of 32 layers, each leaving a share of the n tokens at the authors' own setting.

    Where `fixed`, the layers are those of every model, whatever its depth; else they scale with the depth.
    """

    layers: tuple[int, ...]
    shares: tuple[float, ...]
    fixed: bool = False


@dataclass(frozen=True)
class Depth:
    """All visual tokens leave before one layer: the budget chooses the layer."""


@dataclass(frozen=True)
class Fitted:
    """Counts for every layer, from the authors' table or fitted to the model at hand by a calibration."""


@dataclass(frozen=True)
class Searched:
    """All visual tokens leave before the layer that a search on the model at hand finds."""


Schedule = Staged | Depth | Fitted | Searched
Stages = tuple[Stage, ...]


def counts_per_layer(plan: Stages, n: int, depth: int) -> list[int]:
    """How many of n visual tokens enter each of the decoder's layers."""
    counts = [n] * depth
    for stage in plan:
        counts[stage.layer :] = [stage.count] * (depth - stage.layer)
    return counts


def layer_mean(plan: Stages, n: int, depth: int) -> float:
    """The mean number of visual tokens that enter a layer."""
    return sum(counts_per_layer(plan, n, depth)) / depth


def stages_of_counts(counts: Sequence[int]) -> Stages:
    """The stages that give these counts at each layer's input; the first layer always reads all."""
    return tuple(Stage(layer, count) for layer, count in enumerate(counts) if layer and count != counts[layer - 1])


def solve(schedule: Schedule, k: int, n: int, depth: int, *, budget: str, layer: int = 0) -> Stages:
    """The stages that meet a budget of k of n tokens in a decoder of `depth` layers.

    `layer` replaces the layer of a method with one stage. What cannot be met is refused with what can.
    """
    if isinstance(schedule, Depth):
        return _by_depth(k, n, depth, budget)
    if isinstance(schedule, Fitted):
        return _by_table(k, n, depth, budget)
    if isinstance(schedule, Searched):
        raise ValueError("its layer is searched on the model, not solved for a budget")
    layers = _layers(replace(schedule, layers=(layer,), fixed=True) if layer else schedule, depth)
    if budget == "tokens":
        return _to_count(schedule.shares, layers, k, n)
    return _to_mean(schedule.shares, layers, k, n, depth)


def _layers(schedule: Staged, depth: int) -> tuple[int, ...]:
    """The stages' layers in a decoder of `depth` layers: scaled, at least 1, each after the one before."""
    found: list[int] = []
    for paper in schedule.layers:
        scaled = paper if schedule.fixed else round(paper * depth / PAPER_DEPTH)
        found.append(max(scaled, found[-1] + 1 if found else 1))
    if found[-1] >= depth:
        raise UserError(
            f"it prunes before decoder layer {found[-1]}, but the decoder has {depth} layers, 0 to {depth - 1}; "
            "choose another layer or leave the method out"
        )
    return tuple(found)


def _to_count(shares: Sequence[float], layers: Sequence[int], k: int, n: int) -> Stages:
    """The last stage leaves k; the ones before scale with it, where the authors' own last share allows that."""
    factor = k / (shares[-1] * n) if shares[-1] else 1.0
    counts = [min(n, max(k, round(factor * share * n))) for share in shares[:-1]]
    return _plan(layers, [*counts, k], n)


def _to_mean(shares: Sequence[float], layers: Sequence[int], k: int, n: int, depth: int) -> Stages:
    """All shares times the one factor whose layer mean is nearest to k."""

    def at(factor: float) -> Stages:
        return _plan(layers, [max(1, round(factor * share * n)) for share in shares], n)

    least, most = layer_mean(at(0.0), n, depth), layer_mean(at(_enough(shares, n)), n, depth)
    _check_mean(k, n, least, most)
    below, above = bisect(lambda factor: layer_mean(at(factor), n, depth) <= k, 0.0, _enough(shares, n))
    return min((at(below), at(above)), key=lambda plan: abs(layer_mean(plan, n, depth) - k))


def _enough(shares: Sequence[float], n: int) -> float:
    """A factor at which every stage that has a share keeps all tokens."""
    return 2.0 / min(share for share in shares if share)


def _check_mean(k: int, n: int, least: float, most: float) -> None:
    """Refuse a mean that no factor gives; half a token is rounding."""
    if not least - 0.5 <= k <= most + 0.5:
        raise UserError(
            f"a layer mean of {k} of {n} tokens is out of its reach: it can meet {least:.1f} to {most:.1f} "
            f"(keeps {ceil(SHARES * least / n) / SHARES:.4f} to {floor(SHARES * most / n) / SHARES:.4f}); "
            "choose such a keep, or budget: tokens"
        )


def bisect(low_enough: Callable[[float], bool], low: float, high: float) -> tuple[float, float]:
    """The ends of the smallest interval around the point where a falling condition fails first."""
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if low_enough(middle) else (low, middle)
    return low, high


def _plan(layers: Sequence[int], counts: Sequence[int], n: int) -> Stages:
    """Stages that never give tokens back."""
    stages, left = [], n
    for layer, count in zip(layers, counts, strict=True):
        left = min(left, count)
        stages.append(Stage(layer, left))
    return tuple(stages)


def _by_depth(k: int, n: int, depth: int, budget: str) -> Stages:
    """All tokens for the first layers, none after: the number of layers nearest to the layer mean."""
    if budget == "tokens":
        raise UserError(
            "it drops all visual tokens at one layer, so no count is left after its last prune; use budget: layer_mean"
        )
    layer = round(k * depth / n)
    if not 1 <= layer < depth:
        raise UserError(
            f"a layer mean of {k} of {n} tokens is {k * depth / n:.2f} of {depth} layers; it can meet whole layers, "
            f"1 to {depth - 1} (keeps {1 / depth:.4f} to {(depth - 1) / depth:.4f}); choose such a keep"
        )
    return (Stage(layer, 0),)


def needs_fit(schedule: Schedule, n: int, depth: int) -> bool:
    """Whether the counts have to be found on the model: no table was published for its shape, or never is."""
    return isinstance(schedule, Searched) or (
        isinstance(schedule, Fitted) and (depth, n) != (PAPER_DEPTH, TABLE_TOKENS)
    )


def _by_table(k: int, n: int, depth: int, budget: str) -> Stages:
    """The published counts, between two tables where the budget lies between them."""
    if (depth, n) != (PAPER_DEPTH, TABLE_TOKENS):
        raise ValueError(f"there is no table for {depth} layers and {n} tokens: fit the counts")

    def at(mean: float) -> Stages:
        return stages_of_counts(table_counts(n, depth, mean))

    least = layer_mean(stages_of_counts(table_counts(n, depth, 0.0)), n, depth)
    if budget == "layer_mean":
        _check_mean(k, n, least, n)
        return at(k)
    fewest = at(least)[-1].count
    if k < fewest:
        raise UserError(
            f"its table goes down to {fewest} of {n} tokens after the last prune, not to {k}; use a keep above"
        )
    below, _ = bisect(lambda mean: (at(mean) or (Stage(1, n),))[-1].count <= k, least, n)
    return at(below)
