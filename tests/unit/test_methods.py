"""What every reducer owes: the count, the order, the identity, prefixes, ties; and what `select` refuses."""

import inspect
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lofi.errors import UserError
from lofi.methods import full
from lofi.methods.divprune import max_min_order
from lofi.methods.rectangle import reachable
from lofi.methods.registry import check_params
from lofi.methods.select import METHODS, Selection, VisualContext, resolve, select

QUICK = settings(max_examples=15, deadline=None, derandomize=True)
GRIDS = st.tuples(st.integers(1, 6), st.integers(1, 7))
REDUCERS = sorted(METHODS)
BY_SCORE = ("divprune", "fastervlm", "lofi")


@dataclass
class CLSAttention:
    """CLS attention (n,), at layer -2 only."""

    scores: Tensor

    def cls(self, layer: int) -> Tensor:
        assert layer == -2
        return self.scores


def image(grid: tuple[int, int] = (4, 6), d: int = 16, seed: int = 0, tokens: Tensor | None = None) -> VisualContext:
    generator = torch.Generator().manual_seed(seed)
    n = grid[0] * grid[1]
    if tokens is None:
        tokens = torch.randn(n, d, generator=generator)
    attention = CLSAttention(torch.rand(n, generator=generator))
    return VisualContext(tokens, tokens, grid, image_key=12345, attention=attention)  # type: ignore[arg-type]


def kept(name: str, context: VisualContext, ks: Sequence[int], **params: object) -> list[list[int]]:
    selections = select(name, context, ks, seed=0, params=check_params(name, params))
    return [selection.kept.tolist() for selection in selections]


def counts(name: str, grid: tuple[int, int]) -> list[int]:
    """Every count that the method can keep."""
    n = grid[0] * grid[1]
    if name == "full":
        return [n]
    return reachable(grid) if name in ("grid_2d", "pool") else list(range(1, n + 1))


@pytest.mark.parametrize("name", REDUCERS)
def test_the_registry_names_a_function_with_its_defaults(name: str) -> None:
    parameters = inspect.signature(resolve(name)).parameters
    keywords = {key: p for key, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}
    assert keywords.pop("seed").default is inspect.Parameter.empty
    assert {key: p.default for key, p in keywords.items()} == {
        key: param.default for key, param in METHODS[name].params.items()
    }


@pytest.mark.parametrize("name", REDUCERS)
@QUICK
@given(grid=GRIDS, d=st.integers(1, 9), seed=st.integers(0, 99))
def test_every_count_is_kept_exactly_in_raster_order(name: str, grid: tuple[int, int], d: int, seed: int) -> None:
    n, ks = grid[0] * grid[1], counts(name, grid)
    for k, indices in zip(ks, kept(name, image(grid, d, seed), ks), strict=True):
        assert len(indices) == k
        assert indices == sorted(set(indices))
        assert set(indices) <= set(range(n))


@pytest.mark.parametrize("name", REDUCERS)
def test_keeping_all_is_the_identity_and_asks_nobody(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lofi.methods.select.resolve", lambda name: pytest.fail("the reducer was asked"))
    [selection] = select(name, image((3, 5)), [15], seed=3, params=check_params(name, {}))
    assert torch.equal(selection.kept, torch.arange(15))
    assert selection.embeds is None
    assert not selection.trace


def test_the_full_function_itself_keeps_all_or_refuses() -> None:
    [selection] = full.full(image(), [24], seed=0)
    assert selection.kept.tolist() == list(range(24))
    with pytest.raises(UserError, match="keeps all 24 tokens, not 7"):
        select("full", image(), [7], seed=0, params={})


@pytest.mark.parametrize("name", [name for name in REDUCERS if METHODS[name].nested and name != "full"])
def test_nested_reducers_nest(name: str) -> None:
    sets = [set(indices) for indices in kept(name, image(), list(range(1, 25)))]
    assert all(small < large for small, large in pairwise(sets))


@pytest.mark.parametrize("name", [name for name in REDUCERS if name != "full"])
def test_shared_work_gives_what_single_calls_give(name: str) -> None:
    ks = [6, 1, 24, 12, 6]
    together = select(name, image(), ks, seed=1, params=check_params(name, {}))
    for k, shared in zip(ks, together, strict=True):
        [alone] = select(name, image(), [k], seed=1, params=check_params(name, {}))
        assert torch.equal(shared.kept, alone.kept)
        assert (shared.embeds is None) == (alone.embeds is None)
        assert shared.embeds is None or alone.embeds is None or torch.equal(shared.embeds, alone.embeds)
        assert dict(shared.trace) == dict(alone.trace)


@pytest.mark.parametrize("name", BY_SCORE)
@pytest.mark.parametrize("shape", [(4, 6, 16), (5, 5, 7)])
def test_the_kept_set_follows_a_permutation_of_the_tokens(name: str, shape: tuple[int, int, int]) -> None:
    height, width, d = shape
    context = image((height, width), d)
    order = torch.randperm(height * width, generator=torch.Generator().manual_seed(9))
    moved = image((height, width), tokens=context.projected[order])
    moved.attention.scores = context.attention.scores[order]  # type: ignore[union-attr]
    for k in (1, 3, 10):
        [before], [after] = kept(name, context, [k]), kept(name, moved, [k])
        assert sorted(order[after].tolist()) == before


@pytest.mark.parametrize("name", BY_SCORE)
def test_ties_keep_the_lower_index(name: str) -> None:
    """Twelve orthogonal tokens, each four times: all scores are equal, in every method."""
    context = image((6, 8), tokens=torch.eye(12).repeat(4, 1))
    context.attention.scores = torch.ones(48)  # type: ignore[union-attr]
    params = {"rank": "fixed:12"} if name == "lofi" else {}
    assert kept(name, context, [3, 12], **params) == [[0, 1, 2], list(range(12))]


@pytest.mark.parametrize("name", [name for name in REDUCERS if name != "full"])
@pytest.mark.parametrize("kind", ["zero", "equal", "rank one", "half zero", "bfloat16"])
def test_degenerate_tokens_still_give_a_selection(name: str, kind: str) -> None:
    ramp = torch.arange(1.0, 16.0)[:, None]
    tokens = {
        "zero": torch.zeros(15, 8),
        "equal": torch.ones(15, 8),
        "rank one": ramp * torch.ones(15, 8),
        "half zero": torch.cat([image().projected[:7, :8], torch.zeros(8, 8)]),
        "bfloat16": image().projected[:15, :8].bfloat16(),
    }[kind]
    for k, selection in zip(
        (1, 6, 15), select(name, image((3, 5), tokens=tokens), [1, 6, 15], seed=0, params={}), strict=True
    ):
        assert len(selection.kept) == k
        assert selection.embeds is None or selection.embeds.dtype == tokens.dtype


@pytest.mark.parametrize("name", ["divprune", "lofi", "pool"])
def test_tokens_with_nan_are_an_error_not_a_selection(name: str) -> None:
    context = image()
    context.projected[5, 0] = float("nan")
    with pytest.raises((ValueError, RuntimeError), match="NaN"):
        select(name, context, [6], seed=0, params={})


def test_attention_with_nan_or_absent_is_an_error() -> None:
    context = image()
    context.attention.scores[3] = float("nan")  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="NaN"):
        select("fastervlm", context, [6], seed=0, params={})
    tokens = context.projected
    with pytest.raises(UserError, match="needs CLS attention"):
        select("fastervlm", VisualContext(tokens, tokens, (4, 6), image_key=1), [6], seed=0, params={})


def test_fastervlm_keeps_the_most_attended() -> None:
    context = image()
    context.attention.scores = torch.tensor([0.0, 3.0, 1.0, 3.0, 2.0, 2.0])  # type: ignore[union-attr]
    small = VisualContext(torch.ones(6, 2), torch.ones(6, 2), (2, 3), image_key=1, attention=context.attention)
    assert kept("fastervlm", small, [1, 2, 3, 5]) == [[1], [1, 3], [1, 3, 4], [1, 2, 3, 4, 5]]


def test_divprune_is_the_greedy_rule_and_never_repeats() -> None:
    angles = torch.tensor([0.0, 5.0, 10.0, 90.0, 94.0, 180.0]).deg2rad()
    tokens = torch.stack([angles.cos(), angles.sin()], dim=1) * torch.arange(1, 7)[:, None]
    # 180 has the farthest neighbour; 0 is then farthest; 90 is farthest from both.
    assert max_min_order(tokens, 3).tolist() == [5, 0, 3]
    assert sorted(max_min_order(torch.ones(9, 4), 9).tolist()) == list(range(9))


def test_counts_and_grids_that_cannot_be_are_refused() -> None:
    for k in (0, 25, -1):
        with pytest.raises(UserError, match=f"cannot keep {k} of 24"):
            select("random", image(), [k], seed=0, params={})
    tokens = torch.ones(24, 3)
    with pytest.raises(UserError, match="5 x 5 does not hold the 24 tokens"):
        select("pool", VisualContext(tokens, tokens, (5, 5), image_key=1), [4], seed=0, params={})


FAULTS = {
    "gave 2 selections for 1": lambda tokens: [Selection(torch.arange(3))] * 2,
    "int32": lambda tokens: [Selection(torch.arange(3, dtype=torch.int32))],
    "(2,)": lambda tokens: [Selection(torch.arange(2))],
    "not strictly ascending": lambda tokens: [Selection(torch.tensor([0, 2, 2]))],
    "from 0 to 24": lambda tokens: [Selection(torch.tensor([0, 2, 24]))],
    "from -1 to 4": lambda tokens: [Selection(torch.tensor([-1, 2, 4]))],
    "embeddings of shape": lambda tokens: [Selection(torch.arange(3), tokens[:4])],
    "NaN or infinity": lambda tokens: [Selection(torch.arange(3), tokens[:3] / 0.0)],
}


@pytest.mark.parametrize("message", FAULTS)
def test_a_wrong_selection_is_an_error_that_names_the_method(message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lofi.methods.random.random", lambda context, ks, seed: FAULTS[message](context.projected))
    with pytest.raises(RuntimeError, match="'random'") as error:
        select("random", image(), [3], seed=0, params={})
    assert message in str(error.value)


def test_reading_the_registry_does_not_import_torch() -> None:
    code = "import sys, lofi.methods.registry, lofi.methods.rectangle; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
