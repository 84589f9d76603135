"""What every reducer owes, before the LLM and inside it: each property runs over the registry, so no method escapes it.

The tables below name every method. A new one has to be entered, with its score or with the reason why it has none.
"""

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from lofi.errors import UserError
from lofi.methods.context import Selection, VisualContext, encoder_layer, saliency
from lofi.methods.decoder import DecoderView, attention_rows, last_row
from lofi.methods.random import uniforms
from lofi.methods.registry import METHODS
from lofi.methods.select import OWN, resolve, select_stage

from .reducing import DEPTH, FEATURE_LAYER, KINDS, Encoder, counts, image, prompt, question, run, scene, size, tiled
from .reducing import tokens_of as visual_tokens

# Methods that are never asked for fewer tokens than all.
ALL_OR_NOTHING = {
    "full": "keeps all tokens and refuses any other count",
    "vtw": "keeps all tokens of a layer or none and refuses any other count",
    "vtw_search": "does so at a depth of its own",
}
NAMES = list(METHODS)
REDUCING = [name for name in NAMES if name not in ALL_OR_NOTHING]
INSIDE = [name for name in REDUCING if METHODS[name].acts == "llm"]
OUTSIDE = [name for name in REDUCING if METHODS[name].acts != "llm"]


def leverage(seen: VisualContext | DecoderView) -> Tensor:
    """From a singular value decomposition, at the rank that holds 90 % of the energy."""
    left, values, _ = torch.linalg.svd(visual_tokens(seen).double(), full_matrices=False)
    share = values.square().cumsum(0) / values.square().sum()
    return left[:, : int((share < 0.9).sum()) + 1].square().sum(1)


def single_head(seen: VisualContext) -> Tensor:
    assert isinstance(seen.attention, Encoder)
    queries, keys = seen.attention.queries(-1), seen.attention.keys(-1)
    return (queries[0] @ keys.T / keys.shape[1] ** 0.5).softmax(0)[1:]


def opposition(seen: VisualContext) -> Tensor:
    assert seen.tower is not None
    assert seen.question is not None
    return -(seen.tower.patches(seen.hidden) @ seen.tower.sentence(seen.question.text))


def flow(seen: VisualContext) -> Tensor:
    from lofi.methods.gprune import gathered

    return gathered(seen.projected)


def change(view: DecoderView) -> Tensor:
    return (view.hidden - view.previous)[view.visual].norm(dim=1)


def cross_times_own(view: DecoderView) -> Tensor:
    rows = attention_rows(view, torch.arange(len(view.hidden)), layer=view.layer - 1).amax(0)[:, view.visual]
    return rows[view.text].sum(0) * rows[view.visual].sum(0)


def corrected(view: DecoderView) -> Tensor:
    from lofi.methods.sparsevlm import rated_by_best_heads, raters

    return rated_by_best_heads(view, raters(view), 14)


# What the kept tokens are the largest of.
SCORES: dict[str, Callable[[Any], Tensor]] = {
    "random": lambda seen: uniforms(seen.image_key, len(seen), seed=0, stream=0, device=torch.device("cpu")),
    "fastervlm": saliency,
    "gprune": flow,
    "trim": opposition,
    "trim_auto": opposition,
    "prumerge": single_head,
    "prumerge_fixed": single_head,
    "lofi": leverage,
    "lofi_adaptive": leverage,
    "fastv": lambda view: last_row(view, layer=view.layer - 1),
    "pyramiddrop": lambda view: last_row(view, layer=view.layer),
    "vscan_llm": lambda view: last_row(view, layer=view.layer),
    "v2drop": change,
    "fitprune": cross_times_own,
    "sparsevlm_plus": corrected,
    "lofi_llm": leverage,
}
GREEDY = "greedy: what a token is worth depends on those chosen before"
BY_PLACE = "chooses by place alone"
NO_SCORE = {
    **ALL_OR_NOTHING,
    "grid_1d": BY_PLACE,
    "grid_2d": BY_PLACE,
    "pool": BY_PLACE,
    "vispruner": "half by attention, half for being different",
    "hired": "an allotment for each region",
    "hiprune": "anchors, their neighbours and registers",
    "holov": "an allotment for each crop",
    "scope": GREEDY,
    "vscan": "some of the whole image, some of each window",
    "visionzip": "dominant tokens by attention, contextual ones by place",
    "prumerge_plus": "outliers by attention, and evenly spaced tokens",
    "divprune": GREEDY,
    "tome": "merges pairs",
    "tome_vit": "merges pairs",
    "cdpruner": GREEDY,
    "mmtok": GREEDY,
    "dart": "a share for each pivot",
    "sparsevlm": "kept tokens by attention, merged ones by density",
    "feather": "united with a grid at its first stage",
}

# Methods without geometry: the tokens in another order give the same set.
PERMUTABLE = {
    "fastervlm",
    "vispruner",
    "scope",
    "prumerge",
    "prumerge_fixed",
    "divprune",
    "gprune",
    "cdpruner",
    "trim",
    "trim_auto",
    "mmtok",
    "lofi",
    "lofi_adaptive",
    "v2drop",
    "lofi_llm",
}
ROTARY = "the rotary embedding and the causal mask of the attention depend on places"
PAIRS = "merges tokens at even places into those at odd ones"
BY_GEOMETRY = {
    **ALL_OR_NOTHING,
    "random": "one random number for each place",
    "grid_1d": BY_PLACE,
    "grid_2d": BY_PLACE,
    "pool": BY_PLACE,
    "hired": "regions of the image",
    "hiprune": "neighbours in the grid",
    "holov": "crops of consecutive tokens",
    "vscan": "windows of the grid",
    "visionzip": "contextual targets are evenly spaced in raster order",
    "prumerge_plus": "adds evenly spaced tokens",
    "tome": PAIRS,
    "tome_vit": PAIRS,
    "fastv": ROTARY,
    "dart": ROTARY,
    "sparsevlm": ROTARY,
    "sparsevlm_plus": ROTARY,
    "pyramiddrop": ROTARY,
    "feather": "united with a grid at its first stage",
    "fitprune": ROTARY,
    "vscan_llm": ROTARY,
}

# Methods to which NaN tokens are no error of their own.
BLIND = {
    "random": "looks at no value",
    "grid_1d": "looks at no value",
    "grid_2d": "looks at no value",
    "pool": "averages what it is given; `select` refuses the NaN it yields",
}


def grids(name: str) -> list[tuple[int, int]]:
    """A square grid, and one of odd size that is no square where the method takes such."""
    return [(6, 6), (5, 5) if "square" in METHODS[name].needs else (5, 7)]


def on_grids(names: Iterable[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("name", "grid"), [(name, grid) for name in names for grid in grids(name)])


def each(names: Iterable[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", list(names))


def summary(selections: Iterable[Selection]) -> list[tuple[object, ...]]:
    """Selections as something to compare, bit for bit; NaN in a trace equals NaN."""
    return [
        (
            selection.kept.tolist(),
            selection.rows.tolist(),
            None if selection.embeds is None else selection.embeds.tolist(),
            repr(dict(selection.trace)),
        )
        for selection in selections
    ]


def check(name: str, selections: Iterable[Selection], ks: Iterable[int], seen: VisualContext | DecoderView) -> None:
    """Counts, order, range, and the rows that the LLM reads."""
    tokens, n = visual_tokens(seen), size(seen)
    for selection, k in zip(selections, ks, strict=True):
        kept, rows = selection.kept.tolist(), selection.rows.tolist()
        assert 1 <= selection.count <= n
        assert selection.count == k or METHODS[name].count != "asked"
        assert kept == sorted(set(kept))
        assert set(kept) | set(rows) <= set(range(n))
        assert len(rows) == selection.count
        if selection.embeds is None:
            assert len(kept) == selection.count
            assert rows == kept
        else:
            assert selection.embeds.shape == (selection.count, tokens.shape[1])
            assert selection.embeds.dtype == tokens.dtype
            assert bool(torch.isfinite(selection.embeds).all())
        assert all(isinstance(value, float) for value in selection.trace.values())


@pytest.mark.parametrize(
    ("table", "others"), [(SCORES, NO_SCORE), (dict.fromkeys(PERMUTABLE), BY_GEOMETRY)], ids=["scores", "permutations"]
)
def test_every_method_is_in_one_table_or_in_the_other(table: dict[str, object], others: dict[str, str]) -> None:
    assert set(table) | set(others) == set(METHODS)
    assert not set(table) & set(others)


@each(NAMES)
def test_the_registry_names_a_function_with_its_defaults(name: str) -> None:
    parameters = inspect.signature(resolve(name)).parameters.values()
    keywords = {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    required = ["seed", "targets"] if METHODS[name].count == "calibrated" else ["seed"]
    assert [keywords.pop(key) for key in required] == [inspect.Parameter.empty] * len(required)
    assert keywords == {key: param.default for key, param in METHODS[name].params.items()}
    assert sum(p.kind is inspect.Parameter.POSITIONAL_ONLY for p in parameters) == 2
    assert resolve(name).__doc__


@on_grids(NAMES)
def test_keeping_all_is_the_identity_and_asks_nobody(
    name: str, grid: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = scene(name, grid)
    n = size(seen)
    monkeypatch.setattr("lofi.methods.select.resolve", lambda name: pytest.fail("the reducer was asked"))
    [selection] = run(name, seen, [n])
    assert torch.equal(selection.kept, torch.arange(n))
    assert selection.embeds is None
    assert selection.places is None
    assert not selection.trace


@each([name for name in NAMES if METHODS[name].acts == "llm"])
def test_a_stage_that_keeps_none_asks_nobody(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lofi.methods.select.resolve", lambda name: pytest.fail("the reducer was asked"))
    assert select_stage(name, prompt(), 0, seed=0, params={}).kept.tolist() == []


@each(ALL_OR_NOTHING)
def test_a_method_without_a_choice_refuses_to_make_one(name: str) -> None:
    with pytest.raises((UserError, ValueError), match="7"):
        run(name, scene(name), [7])


@on_grids(REDUCING)
def test_every_count_is_exact_and_in_order(name: str, grid: tuple[int, int]) -> None:
    seen, ks = scene(name, grid), counts(name, grid)
    check(name, run(name, seen, ks), ks, seen)


@on_grids(OUTSIDE)
def test_encoders_without_a_cls_token_do_as_well(name: str, grid: tuple[int, int]) -> None:
    seen, ks = image(grid, cls=False), counts(name, grid)
    check(name, run(name, seen, ks), ks, seen)


@each(INSIDE)
def test_a_later_stage_does_as_well(name: str) -> None:
    seen = prompt((6, 6), left=[1, 2, 5, 8, 9, 10, 14, 17, 20, 21, 22, 30, 35])
    ks = [1, 2, 4, 12]
    check(name, run(name, seen, ks), ks, seen)


@each(OUTSIDE)
@pytest.mark.parametrize("cls", [True, False])
def test_tiles_of_an_image_share_its_count(name: str, cls: bool) -> None:
    seen = tiled((1, 2), cls=cls)
    reducer = METHODS[name]
    ks = [OWN] if reducer.count == "own" else [12, 27] if reducer.rectangle else [3, 10, 20, 47]
    check(name, run(name, seen, ks), ks, seen)


@on_grids(SCORES)
def test_the_kept_tokens_are_those_of_the_largest_scores(name: str, grid: tuple[int, int]) -> None:
    seen = scene(name, grid)
    scores = SCORES[name](seen)
    for selection in run(name, seen, counts(name, grid)):
        assert set(selection.kept.tolist()) == set(scores.topk(len(selection.kept)).indices.tolist())


@on_grids(sorted(PERMUTABLE))
def test_the_kept_set_follows_a_permutation_of_the_tokens(name: str, grid: tuple[int, int]) -> None:
    n = grid[0] * grid[1]
    order = torch.randperm(n, generator=torch.Generator().manual_seed(9))
    before, after = (run(name, scene(name, grid, order=moved), counts(name, grid)) for moved in (None, order))
    for one, other in zip(before, after, strict=True):
        assert sorted(order[other.kept].tolist()) == one.kept.tolist()


@each(REDUCING)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "random"])
def test_degenerate_tokens_still_give_exact_counts(name: str, kind: str) -> None:
    for grid in grids(name):
        seen, ks = scene(name, grid, kind=kind), counts(name, grid)
        check(name, run(name, seen, ks), ks, seen)


@each(REDUCING)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_half_precision_gives_finite_rows_of_its_own_type(name: str, dtype: torch.dtype) -> None:
    grid = grids(name)[1]
    for kind in ("random", "copies"):
        seen, ks = scene(name, grid, kind=kind, dtype=dtype), counts(name, grid)
        check(name, run(name, seen, ks), ks, seen)


@on_grids(REDUCING)
def test_shared_work_gives_what_single_calls_give(name: str, grid: tuple[int, int]) -> None:
    ks = counts(name, grid)
    mixed = [*ks[::-1], *ks[:2], *ks[:1]]
    together = summary(run(name, scene(name, grid), mixed, seed=1))
    assert together == [summary(run(name, scene(name, grid), [k], seed=1))[0] for k in mixed]
    assert together == summary(run(name, scene(name, grid), mixed, seed=1))


def with_nan(tokens: Tensor) -> Tensor:
    return tokens.index_fill(0, torch.tensor([7]), torch.nan)


@each(REDUCING)
def test_tokens_with_nan_are_an_error_not_a_selection(name: str) -> None:
    k = counts(name, (6, 6))[-1]
    seen = scene(name, change=with_nan)
    if name not in BLIND:
        with pytest.raises(ValueError, match="NaN"):
            run(name, seen, [k])
    elif METHODS[name].merges:
        with pytest.raises(RuntimeError, match="NaN"):
            run(name, seen, [k])
    else:
        assert summary(run(name, seen, [k])) == summary(run(name, scene(name), [k]))


@each(name for name in REDUCING if METHODS[name].nested)
def test_nested_methods_nest(name: str) -> None:
    sets = [set(selection.kept.tolist()) for selection in run(name, scene(name), list(range(1, 37)))]
    assert all(small < large for small, large in pairwise(sets))


def draws(name: str, **params: object) -> tuple[set[str], set[str]]:
    """What a method gives under several seeds, and for several images that differ in their key alone.

    Some images hold copies of three tokens: random numbers may have no other use than to choose among equals.
    """
    seeds, keys = set(), set()
    for kind in ("copies", "random"):
        seen = scene(name, kind=kind)
        ks = counts(name, (6, 6))
        seeds |= {kind + repr(summary(run(name, seen, ks, seed=seed, **params))) for seed in range(4)}
        keys |= {
            kind + repr(summary(run(name, replace(seen, image_key=key), ks, seed=0, **params))) for key in range(1, 5)
        }
    return seeds, keys


@each(REDUCING)
def test_random_methods_differ_by_seed_and_image_and_the_others_do_not(name: str) -> None:
    reducer = METHODS[name]
    seeds, keys = draws(name)
    assert (len(seeds) > 2, len(keys) > 2) == (reducer.random, reducer.random)  # the two kinds of image differ anyway
    if reducer.random_when:
        seeds, keys = draws(name, **dict([reducer.random_when]))
        assert len(seeds) > 2
        assert len(keys) > 2


@each(OUTSIDE)
def test_methods_read_the_question_if_they_say_so(name: str) -> None:
    found = {
        repr(summary(run(name, replace(image(), question=question(text)), counts(name, (6, 6)))))
        for text in ("what is on the left?", "is it green?", "why?")
    }
    assert (len(found) > 1) == METHODS[name].sees_text


@each(OUTSIDE)
def test_methods_run_without_what_they_do_not_need(name: str) -> None:
    needs, seen = METHODS[name].needs, image(cls=False)
    seen = replace(
        seen,
        attention=seen.attention if "attention" in needs else None,
        tower=seen.tower if "tower" in needs else None,
        blocks=seen.blocks if "blocks" in needs else None,
        question=seen.question if METHODS[name].sees_text else None,
    )
    ks = counts(name, (6, 6))
    check(name, run(name, seen, ks), ks, seen)


@each(OUTSIDE)
@pytest.mark.parametrize("cls", [True, False])
def test_methods_read_the_encoder_layers_that_they_declare(name: str, cls: bool) -> None:
    seen = image(cls=cls)
    run(name, seen, counts(name, (6, 6)))
    assert isinstance(seen.attention, Encoder)
    declared = {FEATURE_LAYER % DEPTH, *(encoder_layer(layer, DEPTH) % DEPTH for layer in METHODS[name].layers)}
    assert seen.attention.asked <= declared
    assert not seen.attention.asked or "attention" in METHODS[name].needs


@each(REDUCING)
def test_methods_merge_if_they_say_so_and_else_leave_the_rows_as_they_are(name: str) -> None:
    seen = scene(name)
    selections = [s for s in run(name, seen, counts(name, (6, 6))) if s.embeds is not None]
    replaced = [not torch.equal(s.embeds, visual_tokens(seen)[s.rows]) for s in selections if s.embeds is not None]
    assert any(replaced) == METHODS[name].merges
    if not METHODS[name].merges:  # the rows only come in another order
        assert all(sorted(s.rows.tolist()) == s.kept.tolist() for s in selections)


# What a parameter's rule lets pass and the method refuses, with the reason.
REFUSED = {("lofi_adaptive", "rank", "budget"): "the rank would need the count that follows from it"}


def words(name: str) -> list[tuple[str, str, str]]:
    """Every parameter of a method that takes one of some words, with each of these words."""
    found = [(key, word) for key, param in METHODS[name].params.items() for word in param.pattern.split("|")]
    return [(name, key, word) for key, word in found if re.fullmatch("[a-z]+", word)]


@pytest.mark.parametrize(("name", "key", "word"), [case for name in REDUCING for case in words(name)])
def test_every_word_of_a_parameter_is_taken(name: str, key: str, word: str) -> None:
    seen, ks = scene(name), counts(name, (6, 6))
    if (name, key, word) in REFUSED:
        with pytest.raises(UserError, match=word):
            run(name, seen, ks, **{key: word})
    else:
        check(name, run(name, seen, ks, **{key: word}), ks, seen)
