"""LoFi adaptive: the calibrated mean, the count of each image, and the errors outside the span for every K."""

import random
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lofi import spectra
from lofi.errors import UserError
from lofi.methods.context import Selection, VisualContext
from lofi.methods.lofi_adaptive import calibrate, errors_outside, lofi_adaptive, rank_tokens
from lofi.methods.select import select

MEASURES = ("mass", "spectral")


def tokens_of(n: int, d: int, components: int, seed: int = 0, noise: float = 0.01) -> Tensor:
    """n tokens around a subspace of some components, their lengths spread."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(n, components, generator=generator) @ torch.randn(components, d, generator=generator)
    lengths = torch.randn(n, 1, generator=generator).exp()
    return lengths * (tokens + noise * torch.randn(n, d, generator=generator))


def image(tokens: Tensor, key: int = 1) -> VisualContext:
    return VisualContext(tokens, tokens, (1, len(tokens)), image_key=key)


def images(count: int, n: int = 30) -> list[VisualContext]:
    return [image(tokens_of(n, 40, 1 + i % 12, seed=i), i) for i in range(count)]


def run(context: VisualContext, k: int, target: float, measure: str, rank: str = "energy:0.9") -> Selection:
    params = {"measure": measure, "rank": rank, "targets": {k: target}}
    [selection] = select("lofi_adaptive", context, [k], seed=0, params=params)
    return selection


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("rank", ["energy:0.9", "fixed:4", "erank"])
def test_the_mean_count_is_the_one_asked_for(measure: str, rank: str) -> None:
    contexts = images(24)
    targets = calibrate(contexts, [3, 8, 15, 29], measure=measure, rank=rank)
    for k, target in targets.items():
        counts = [run(context, k, target, measure, rank).count for context in contexts]
        assert abs(sum(counts) / len(counts) - k) <= 0.5


@pytest.mark.parametrize("measure", MEASURES)
def test_easy_images_cost_less(measure: str) -> None:
    easy = [image(tokens_of(30, 40, 2, seed=i)) for i in range(8)]
    hard = [image(tokens_of(30, 40, 20, seed=i)) for i in range(8)]
    target = calibrate(easy + hard, [10], measure=measure)[10]
    totals = [sum(run(context, 10, target, measure).count for context in half) for half in (easy, hard)]
    assert totals[0] < totals[1]


@pytest.mark.parametrize("measure", MEASURES)
def test_a_count_is_the_smallest_that_meets_its_target(measure: str) -> None:
    context = images(7)[6]
    rows, order = spectra.row_gram(context.projected), rank_tokens(context.projected, measure, "energy:0.9").order
    for target in (0.05, 0.3, 0.7, 0.95):
        selection = run(context, 5, target, measure)
        assert selection.trace["target"] == target
        assert selection.kept.tolist() == order[: selection.count].sort().values.tolist()
        fewer = order[: selection.count - 1]
        if measure == "mass":
            leverage = rank_tokens(context.projected, measure, "energy:0.9").leverage
            assert selection.trace["kept_mass"] >= target > float(leverage[fewer].sum()) / selection.trace["rank"]
        else:
            assert selection.trace["reconstruction_error"] <= target
            assert not len(fewer) or spectra.row_space_error(context.projected, fewer, rows) > target


@pytest.mark.parametrize("measure", MEASURES)
def test_counts_move_one_way_with_the_target_and_end_at_one_and_n(measure: str) -> None:
    context = images(6)[5]
    steps = [i / 20 for i in range(21)]
    counts = [run(context, 5, target, measure).count for target in (steps if measure == "mass" else steps[::-1])]
    assert all(a <= b for a, b in pairwise(counts))
    least, most = (0.0, 1.01) if measure == "mass" else (1.0, -0.01)
    assert run(context, 5, least, measure).count == 1
    assert run(context, 5, most, measure).kept.tolist() == list(range(30))


@pytest.mark.parametrize("measure", MEASURES)
def test_equal_images_get_equal_counts_and_the_cheaper_of_two(measure: str) -> None:
    tokens = tokens_of(16, 20, 6)
    contexts = [image(tokens, key) for key in (1, 2, 3)]
    targets = calibrate(contexts, [4, 9], measure=measure)
    for k, target in targets.items():
        assert {run(context, k, target, measure).count for context in contexts} == {k}
    other = image(tokens_of(16, 20, 1, seed=9, noise=0.0))  # the first token spans the image
    pair = calibrate([image(tokens), other], [1], measure="spectral")
    assert run(other, 1, pair[1], "spectral").count == 1
    assert run(image(tokens), 1, pair[1], "spectral").count == 1  # 1 and 2 tokens in the mean are 1 and 1.5


@pytest.mark.parametrize("measure", MEASURES)
def test_the_order_of_the_images_and_their_batches_do_not_matter(measure: str) -> None:
    contexts = images(15)
    forth = calibrate(iter(contexts), [4, 10], measure=measure)
    random.Random(0).shuffle(contexts)
    assert calibrate(contexts, [10, 4, 4], measure=measure) == forth


@settings(max_examples=30, deadline=None, derandomize=True)
@given(n=st.integers(2, 24), d=st.integers(2, 24), components=st.integers(1, 24), seed=st.integers(0, 99))
def test_the_errors_are_those_of_the_span(n: int, d: int, components: int, seed: int) -> None:
    tokens = tokens_of(n, d, components, seed, noise=0.0)
    tokens[n // 2] = tokens[0]
    tokens[-1] *= float(seed % 3)  # a row of zeros among them
    rows, order = spectra.row_gram(tokens), torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    found = errors_outside(rows, order)
    for k in range(1, n + 1):
        assert float(found[k - 1]) == pytest.approx(spectra.row_space_error(tokens, order[:k], rows), abs=1e-7)


def test_images_that_are_flat_or_empty_cost_little() -> None:
    flat = image(torch.ones(9, 4))
    assert run(flat, 3, 0.01, "spectral").kept.tolist() == [0]
    assert run(flat, 3, 0.5, "mass").kept.tolist() == [0, 1, 2, 3, 4]
    for measure in MEASURES:
        empty = run(image(torch.zeros(9, 4)), 3, 0.5, measure)
        assert empty.kept.tolist() == [0]
        assert empty.trace["rank"] == 0.0
        assert set(calibrate([image(torch.zeros(9, 4))], [3], measure=measure)) == {3}


@pytest.mark.parametrize("measure", MEASURES)
def test_what_cannot_be_is_refused(measure: str) -> None:
    tokens = tokens_of(8, 5, 3)
    with pytest.raises(UserError, match="budget"):
        run(image(tokens), 3, 0.5, measure, rank="budget")
    with pytest.raises(UserError, match="budget"):
        calibrate([image(tokens)], [3], measure=measure, rank="budget")
    with pytest.raises(ValueError, match="no image"):
        calibrate([], [3], measure=measure)
    with pytest.raises(ValueError, match="no target for 3"):
        lofi_adaptive(image(tokens), [3], seed=0, measure=measure, targets={4: 0.5})
    tokens[2, 1] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        run(image(tokens), 3, 0.5, measure)
    with pytest.raises(ValueError, match="NaN"):
        calibrate([image(tokens)], [3], measure=measure)


def test_a_measure_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="neither mass nor spectral"):
        rank_tokens(torch.ones(3, 2), "length", "erank")
