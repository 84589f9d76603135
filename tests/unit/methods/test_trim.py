"""TRIM beyond the authors' data: one row, the projector, tiles, what it cannot do without."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from lofi.errors import UserError
from lofi.methods.context import Question, Tiles
from lofi.methods.select import VisualContext, select
from lofi.methods.trim import outliers, trim, trim_auto


@dataclass
class Tower:
    """Patches are the hidden states; every text is the first axis."""

    def patches(self, hidden: Tensor) -> Tensor:
        return hidden

    def segments(self, text: str) -> Tensor:
        raise NotImplementedError

    def sentence(self, text: str) -> Tensor:
        return torch.eye(1, 4)[0]


def image(first: list[float], dtype: torch.dtype = torch.float32) -> VisualContext:
    """Tokens whose first feature is the similarity with the text; the projector squares and doubles the width."""
    n = len(first)
    hidden = torch.randn(n, 4, generator=torch.Generator().manual_seed(0))
    hidden[:, 0] = torch.tensor(first)
    hidden = hidden.to(dtype)

    def project(rows: Tensor) -> Tensor:
        return rows.square().repeat(1, 2)

    question = Question("Is it red?", torch.zeros(1, 8))
    return VisualContext(hidden, project(hidden), (1, n), 1, project=project, question=question, tower=Tower())


def test_the_least_similar_stay_and_the_mean_is_formed_before_the_projector() -> None:
    context = image([0.1, -1.0, 0.3, -2.0, 0.2])
    [one, three] = select("trim", context, [1, 3], seed=0, params={})
    assert one.kept.tolist() == []
    assert one.rows.tolist() == [4]
    assert one.embeds is not None
    torch.testing.assert_close(one.embeds, context.project(context.hidden.mean(0, keepdim=True)))
    assert three.kept.tolist() == [1, 3]
    assert three.rows.tolist() == [1, 3, 4]
    assert three.embeds is not None
    assert torch.equal(three.embeds[:2], context.projected[[1, 3]])
    torch.testing.assert_close(three.embeds[2:], context.project(context.hidden[[0, 2, 4]].mean(0, keepdim=True)))


def test_rows_keep_the_type_of_the_features() -> None:
    [selection] = select("trim", image([0.0, 1.0, 2.0], torch.bfloat16), [2], seed=0, params={})
    assert selection.embeds is not None
    assert selection.embeds.dtype == torch.bfloat16


def test_only_scores_above_the_upper_fence_are_outliers() -> None:
    scores = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 9.5, -20.0])  # quartiles 1.5 and 4.5: fence 9
    assert outliers(scores) == 1
    assert outliers(scores.clamp(max=9.0)) == 0
    assert outliers(torch.ones(49)) == 0


@pytest.mark.parametrize("n", [49, 98, 103])
def test_the_automatic_count_is_the_number_of_outliers(n: int) -> None:
    """One of 49 is such a size: 49 * (1 / 49) is below 1 in floating point."""
    [selection] = trim_auto(image([-3.0] + [0.0] * (n - 1)), [0], seed=0)
    assert selection.kept.tolist() == [0]
    assert selection.count == 2
    [mean] = trim_auto(image([0.0] * n), [0], seed=0)
    assert mean.count == 1


def test_tiles_share_the_outliers_and_have_means_of_their_own() -> None:
    context = replace(image([-3.0, *[0.0] * 9, *[0.0] * 9, -2.0]), tiles=Tiles(2, (1, 1)))
    [selection] = trim_auto(context, [0], seed=0)
    assert selection.kept.tolist() == [0, 19]
    assert selection.rows.tolist() == [0, 9, 19, 19]
    assert selection.embeds is not None
    torch.testing.assert_close(selection.embeds[1:2], context.project(context.hidden[1:10].mean(0, keepdim=True)))
    torch.testing.assert_close(selection.embeds[3:], context.project(context.hidden[10:19].mean(0, keepdim=True)))


def test_it_says_what_it_misses() -> None:
    context = image([0.0, 1.0, 2.0])
    with pytest.raises(UserError, match="`text_tower`"):
        trim(replace(context, tower=None), [2], seed=0)
    with pytest.raises(UserError, match="question"):
        trim_auto(replace(context, question=None), [0], seed=0)
    context.hidden[1, 0] = torch.nan
    for method in (trim, trim_auto):
        with pytest.raises(ValueError, match="NaN"):
            method(context, [2], seed=0)
