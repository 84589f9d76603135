"""Stages inside the LLM: the published settings, and budgets that are met or refused with what can be met."""

import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lofi.cell import kept_count
from lofi.errors import UserError
from lofi.methods.fitprune_table import DELETED, counts_of
from lofi.methods.registry import METHODS
from lofi.methods.schedule import (
    Depth,
    Fitted,
    Schedule,
    Searched,
    Stage,
    Staged,
    Stages,
    counts_per_layer,
    layer_mean,
    needs_fit,
    solve,
    stages_of_counts,
)

N, DEPTH = 576, 32  # of the models in the papers
DEPTHS = (4, 6, 12, 28, 32, 80)
SIZES = (100, 144, 576, 729)
SCHEDULES: dict[str, Schedule] = {
    name: reducer.schedule
    for name, reducer in METHODS.items()
    if reducer.schedule is not None and not isinstance(reducer.schedule, Searched)
}
STAGED = {name: schedule for name, schedule in SCHEDULES.items() if isinstance(schedule, Staged)}
ONE_STAGE = sorted(name for name in STAGED if "layer" in METHODS[name].params)


def shapes(schedule: Schedule) -> Iterator[tuple[int, int]]:
    """Every number of tokens and depth for which a schedule is solved without a model."""
    return ((n, depth) for n in SIZES for depth in DEPTHS if not needs_fit(schedule, n, depth))


def some_counts(n: int) -> list[int]:
    """Counts from 1 to n - 1: the ends, and a few of every size between them."""
    return sorted({1, 2, 3, n // 100 + 1, *range(5, n, n // 23 + 1), n // 2, n - 2, n - 1})


def published(layers: tuple[int, ...], *counts: int) -> float:
    """The layer mean of a published setting."""
    return layer_mean(tuple(map(Stage, layers, counts)), N, DEPTH)


def mean_for(name: str, k: int, *, n: int = N, depth: int = DEPTH, layer: int = 0) -> Stages:
    return solve(SCHEDULES[name], k, n, depth, budget="layer_mean", layer=layer)


def count_for(name: str, k: int, *, n: int = N, depth: int = DEPTH, layer: int = 0) -> Stages:
    return solve(SCHEDULES[name], k, n, depth, budget="tokens", layer=layer)


def attempt(name: str, k: int, n: int, depth: int, *, budget: str = "layer_mean", layer: int = 0) -> Stages | UserError:
    """The plan, or why there is none."""
    try:
        return solve(SCHEDULES[name], k, n, depth, budget=budget, layer=layer)
    except UserError as error:
        return error


# ---- published numbers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fastv", "dart", "lofi_llm"])
@pytest.mark.parametrize(("mean", "count"), [(306, 288), (171, 144), (192, 166), (128, 98), (64, 30)])
def test_one_stage_before_layer_2(name: str, mean: int, count: int) -> None:
    assert mean_for(name, mean) == (Stage(2, count),) == count_for(name, count)
    assert published((2,), count) == pytest.approx(mean, abs=0.5)
    assert count == round((DEPTH * mean - 2 * N) / (DEPTH - 2))


@pytest.mark.parametrize(("label", "mean"), [(192, 219.8), (128, 159.8), (64, 99.8)])
def test_dart_keeps_its_four_pivots_beside_its_label(label: int, mean: float) -> None:
    assert published((2,), label + 4) == pytest.approx(mean, abs=0.051)


@pytest.mark.parametrize(
    ("counts", "mean"),
    [
        ((309, 204, 113), 206.5),
        ((312, 117, 39), 145.4),
        ((249, 55, 27), 114.1),
        ((82, 32, 18), 82.3),
        ((300, 200, 118), 206.8),
        ((238, 108, 60), 144.1),
        ((246, 54, 28), 113.9),
        ((66, 34, 20), 81.8),
    ],
)
def test_sparsevlm_reads_more_than_its_label(counts: tuple[int, ...], mean: float) -> None:
    assert published((3, 7, 16), *counts) == pytest.approx(mean, abs=0.051)


def test_sparsevlm_at_its_authors_last_count_is_their_schedule() -> None:
    assert count_for("sparsevlm", 113) == (Stage(3, 309), Stage(7, 204), Stage(16, 113))
    assert count_for("sparsevlm_plus", 118) == (Stage(3, 300), Stage(7, 200), Stage(16, 118))


def test_pyramiddrop_by_default_has_a_mean_of_270_and_reaches_no_144() -> None:
    default = (Stage(8, 288), Stage(16, 144), Stage(24, 72))
    assert layer_mean(default, N, DEPTH) == 270
    assert mean_for("pyramiddrop", 270) == default == count_for("pyramiddrop", 72)
    assert mean_for("pyramiddrop", 145) == (Stage(8, 2), Stage(16, 1), Stage(24, 1))
    for k in (144, 128, 64):
        with pytest.raises(UserError, match=rf"a layer mean of {k} of 576 .* it can meet 144\.8 to 576\.0"):
            mean_for("pyramiddrop", k)


@pytest.mark.parametrize(
    ("counts", "mean"), [((288, 86, 1), 193.75), ((161, 40, 1), 131.0), ((28, 1, 1), 66.71875), ((288, 144, 1), 202.8)]
)
def test_v2drop_keeps_one_token_at_the_end(counts: tuple[int, ...], mean: float) -> None:
    assert published((3, 17, 22), *counts) == pytest.approx(mean, abs=0.02)


def test_v2drop_solved_for_its_published_means() -> None:
    for k in (193, 131, 67):
        plan = mean_for("v2drop", k)
        assert [stage.layer for stage in plan] == [3, 17, 22]
        assert plan[-1].count == 1
        assert layer_mean(plan, N, DEPTH) == pytest.approx(k, abs=0.5)
    assert count_for("v2drop", 1) == (Stage(3, 288), Stage(17, 144), Stage(22, 1))


def test_feather_and_vscan_at_their_authors_counts() -> None:
    assert count_for("feather", 19) == (Stage(8, 217), Stage(16, 19))
    assert mean_for("vscan_llm", 64, n=96) == (Stage(16, 32),)
    assert mean_for("vscan_llm", 64, n=96, depth=28)[0].layer == 14


@pytest.mark.parametrize(("mean", "layer"), [(270, 15), (288, 16), (18, 1), (558, 31), (280, 16), (278, 15)])
def test_vtw_takes_the_nearest_depth(mean: int, layer: int) -> None:
    assert mean_for("vtw", mean) == (Stage(layer, 0),)
    assert layer_mean((Stage(layer, 0),), N, DEPTH) == pytest.approx(mean, abs=N / DEPTH / 2)


@pytest.mark.parametrize("ratio", DELETED)
def test_fitprune_meets_the_means_of_its_tables(ratio: int) -> None:
    entering = counts_of(DELETED[ratio], N)
    mean = layer_mean(stages_of_counts(entering), N, DEPTH)
    assert mean == sum(entering) / DEPTH
    k = round(mean + 0.25)  # 72.8 is the least
    if k < N:
        assert layer_mean(mean_for("fitprune", k), N, DEPTH) == k
    assert counts_per_layer(stages_of_counts(entering), N, DEPTH) == entering


def test_fitprune_between_its_tables() -> None:
    for k in range(73, N):
        assert sum(counts_per_layer(mean_for("fitprune", k), N, DEPTH)) == k * DEPTH
    assert counts_per_layer(count_for("fitprune", 37), N, DEPTH)[-1] == 37
    with pytest.raises(UserError, match=r"goes down to 37 of 576 tokens after the last prune, not to 36"):
        count_for("fitprune", 36)


@pytest.mark.parametrize(
    ("name", "depth", "layers"),
    [
        ("fastv", 80, (2,)),
        ("dart", 4, (2,)),
        ("sparsevlm", 28, (3, 6, 14)),
        ("pyramiddrop", 28, (7, 14, 21)),
        ("pyramiddrop", 80, (20, 40, 60)),
        ("v2drop", 28, (3, 15, 19)),
        ("feather", 6, (2, 3)),
        ("sparsevlm", 4, (1, 2, 3)),
    ],
)
def test_layers_scale_with_the_depth_unless_the_authors_fix_them(name: str, depth: int, layers: tuple[int]) -> None:
    assert tuple(stage.layer for stage in count_for(name, 50, depth=depth)) == layers


# ---- both budgets, everywhere --------------------------------------------------------------------------------------


def check_order(plan: Stages, n: int, depth: int) -> None:
    """Layers strictly ascend within the decoder, counts never rise."""
    layers = [0, *(stage.layer for stage in plan), depth]
    counts = [n, *(stage.count for stage in plan), 0]
    assert all(a < b for a, b in pairwise(layers))
    assert all(a >= b for a, b in pairwise(counts))


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_last_count_is_the_one_asked_for(name: str) -> None:
    for n, depth in shapes(SCHEDULES[name]):
        for k in some_counts(n):
            plan = attempt(name, k, n, depth, budget="tokens")
            if isinstance(plan, UserError):
                assert name == "vtw" or (name == "fitprune" and k < 37), plan
            else:
                check_order(plan, n, depth)
                assert counts_per_layer(plan, n, depth)[-1] == k


def factors_tried(schedule: Staged, n: int) -> list[float]:
    """One factor for every plan that any factor gives: between the points where a count changes."""
    jumps = sorted({(j + 0.5) / (share * n) for share in schedule.shares if share for j in range(n + 1)})
    return [0.0, *((a + b) / 2 for a, b in pairwise(jumps)), 2 * jumps[-1]]


def means_reached(name: str, n: int, depth: int) -> set[Fraction]:
    """By hand: the layer mean of every plan that scales the authors' shares by one factor."""
    schedule = STAGED[name]
    layers = [stage.layer for stage in count_for(name, 1, n=n, depth=depth)]
    spans = [b - a for a, b in pairwise([*layers, depth])]
    found = set()
    for factor in factors_tried(schedule, n):
        counts = [max(1, min(n, round(factor * share * n))) for share in schedule.shares]
        total = layers[0] * n + sum(span * count for span, count in zip(spans, counts, strict=True))
        found.add(Fraction(total, depth))
    return found


@pytest.mark.parametrize("name", STAGED)
@pytest.mark.parametrize("depth", DEPTHS)
def test_the_layer_mean_is_the_nearest_that_a_factor_reaches(name: str, depth: int) -> None:
    for n in (100, 576):
        means = means_reached(name, n, depth)
        for k in some_counts(n):
            best = min(abs(mean - k) for mean in means)
            plan = attempt(name, k, n, depth)
            if isinstance(plan, UserError):
                assert best > 0.5, plan
            else:
                check_order(plan, n, depth)
                assert plan[-1].count >= 1
                assert abs(Fraction(sum(counts_per_layer(plan, n, depth)), depth) - k) == best <= 0.5


def named_range(error: UserError) -> tuple[float, float, str, str]:
    """The means and the keeps that a refusal offers."""
    found = re.search(r"meet (?:whole layers, )?([\d.]+) to ([\d.]+) \(keeps ([\d.]+) to ([\d.]+)\)", str(error))
    assert found, error
    return float(found[1]), float(found[2]), found[3], found[4]


def ends(name: str, n: int, depth: int) -> tuple[list[int], list[int], list[UserError]]:
    """Counts that are met and counts that are refused as a mean, and why: some of every size, and all near the ends."""
    found = {k: attempt(name, k, n, depth) for k in some_counts(n)}
    for a, b in pairwise(some_counts(n)):
        if isinstance(found[a], UserError) != isinstance(found[b], UserError):
            found |= {k: attempt(name, k, n, depth) for k in range(a + 1, b)}
    for plan in found.values():
        if not isinstance(plan, UserError):
            check_order(plan, n, depth)
    met = sorted(k for k, plan in found.items() if not isinstance(plan, UserError))
    return met, sorted(found.keys() - met), [plan for plan in found.values() if isinstance(plan, UserError)]


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_refusal_offers_exactly_what_can_be_met(name: str) -> None:
    for n, depth in shapes(SCHEDULES[name]):
        met, refused, errors = ends(name, n, depth)
        assert not any(met[0] < k < met[-1] for k in refused)
        assert {met[0] - 1, met[-1] + 1} <= {*refused, 0, n}
        for error in errors:
            low, high, *keeps = named_range(error)
            scale = n / depth if "whole layers" in str(error) else 1.0
            slack = scale / 2 + 0.051  # rounding, and one decimal in the message
            assert met[0] == pytest.approx(low * scale, abs=slack)
            assert met[-1] == pytest.approx(min(high * scale, n - 1), abs=slack)
            for keep in keeps:
                k = kept_count(keep, n)
                assert k == n or met[0] <= k <= met[-1]
    assert errors


@pytest.mark.parametrize(("n", "depth"), [(1250, 9), (2405, 5)])
def test_the_offered_keeps_are_rounded_towards_each_other(n: int, depth: int) -> None:
    with pytest.raises(UserError) as refusal:
        mean_for("fastv", 1, n=n, depth=depth)
    mean_for("fastv", kept_count(named_range(refusal.value)[2], n), n=n, depth=depth)


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(sorted(STAGED)),
    n=st.integers(1, 3000),
    depth=st.integers(4, 120),
    budget=st.sampled_from(["tokens", "layer_mean"]),
    data=st.data(),
)
def test_any_shape_is_met_or_refused_in_one_line(
    name: str, n: int, depth: int, budget: str, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, max(1, n - 1)))
    layer = data.draw(st.integers(0, depth - 1)) if name in ONE_STAGE else 0
    plan = attempt(name, k, n, depth, budget=budget, layer=layer)
    if isinstance(plan, UserError):
        assert budget == "layer_mean"
        assert "\n" not in str(plan)
        low, high, *keeps = named_range(plan)
        assert k <= low - 0.45 or k >= high + 0.45
        for keep in keeps:
            solve(SCHEDULES[name], kept_count(keep, n), n, depth, budget=budget, layer=layer)
        return
    check_order(plan, n, depth)
    assert not layer or plan == (Stage(layer, plan[0].count),)
    if budget == "tokens":
        assert plan[-1].count == k
    else:
        assert abs(layer_mean(plan, n, depth) - k) <= 0.5


@settings(max_examples=200, deadline=None)
@given(n=st.integers(80, 3000), depth=st.integers(2, 80), data=st.data())
def test_vtw_is_met_to_half_a_layer(n: int, depth: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, n - 1))
    plan = attempt("vtw", k, n, depth)
    if isinstance(plan, UserError):
        for keep in named_range(plan)[2:]:
            mean_for("vtw", kept_count(keep, n), n=n, depth=depth)
        assert not 0.5 < k * depth / n < depth - 0.5
        return
    (stage,) = plan
    assert 1 <= stage.layer < depth
    assert abs(layer_mean(plan, n, depth) - k) <= n / depth / 2 + 1e-9


@given(st.integers(1, 50).flatmap(lambda n: st.lists(st.integers(0, n), max_size=12).map(lambda rest: (n, rest))))
def test_counts_per_layer_and_back(case: tuple[int, list[int]]) -> None:
    n, rest = case
    counts = [n, *sorted(rest, reverse=True)]
    plan = stages_of_counts(counts)
    assert counts_per_layer(plan, n, len(counts)) == counts
    assert layer_mean(plan, n, len(counts)) == pytest.approx(sum(counts) / len(counts))


# ---- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ONE_STAGE)
@pytest.mark.parametrize("depth", DEPTHS)
def test_a_layer_of_the_users_own(name: str, depth: int) -> None:
    for layer in (1, depth // 2, depth - 1):
        assert count_for(name, 40, depth=depth, layer=layer) == (Stage(layer, 40),)
        (stage,) = mean_for(name, 570, depth=depth, layer=layer)
        assert stage.layer == layer
        assert layer_mean((stage,), N, depth) == pytest.approx(570, abs=0.5)
    for layer in (depth, depth + 1):
        with pytest.raises(
            UserError, match=rf"before decoder layer {layer}, but the decoder has {depth} layers"
        ) as info:
            count_for(name, 40, depth=depth, layer=layer)
        assert "\n" not in str(info.value)


def test_a_decoder_that_is_too_shallow() -> None:
    with pytest.raises(UserError, match=r"before decoder layer 3, but the decoder has 3 layers, 0 to 2"):
        count_for("pyramiddrop", 40, depth=3)
    with pytest.raises(UserError, match=r"before decoder layer 2, but the decoder has 2 layers, 0 to 1"):
        mean_for("fastv", 500, depth=2)


def test_vtw_leaves_no_count_after_its_last_prune() -> None:
    with pytest.raises(UserError, match="use budget: layer_mean"):
        count_for("vtw", 40)
    with pytest.raises(UserError, match=r"is 0\.39 of 32 layers; it can meet whole layers, 1 to 31"):
        mean_for("vtw", 7)


def test_fitprune_of_another_shape_has_to_be_fitted() -> None:
    assert not needs_fit(Fitted(), N, DEPTH)
    for n, depth in ((N, 28), (144, DEPTH)):
        assert needs_fit(Fitted(), n, depth)
        with pytest.raises(ValueError, match="fit the counts"):
            mean_for("fitprune", 100, n=n, depth=depth)
    assert not needs_fit(Depth(), 144, 6)
    assert not needs_fit(STAGED["fastv"], 144, 6)


def test_what_is_searched_on_the_model_is_not_solved() -> None:
    assert needs_fit(Searched(), N, DEPTH)
    with pytest.raises(ValueError, match="searched on the model"):
        solve(Searched(), 100, N, DEPTH, budget="layer_mean")
