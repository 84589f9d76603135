"""TRIM keeps the tokens that the authors' code keeps and forms the same mean of the others."""

import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from lofi.methods.context import Question, Selection
from lofi.methods.select import OWN, VisualContext, select
from lofi.methods.trim import outliers, question_scores, with_mean

from .vectors import Vectors, check_every_array

GOLDEN = Vectors("vision", "trim")
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
GRIDS = sorted({name.split("_")[1] for name in GOLDEN.names if name.startswith("in_n")})
CASES = [name.removesuffix("mask") for name in GOLDEN.names if name.endswith("_mask")]


@dataclass
class StoredTower:
    """The stored layer norm and projection, and one stored text embedding."""

    text: Tensor

    def patches(self, hidden: Tensor) -> Tensor:
        weight, bias = GOLDEN.tensor("in_ln_weight"), GOLDEN.tensor("in_ln_bias")
        return layer_norm(hidden, weight.shape, weight, bias, eps=1e-5) @ GOLDEN.tensor("in_proj_weight").T

    def segments(self, text: str) -> Tensor:
        raise NotImplementedError

    def sentence(self, text: str) -> Tensor:
        return self.text


def contexts_of(grid: str) -> list[VisualContext]:
    """Every sample as an image, with a projector that changes nothing."""
    samples = zip(GOLDEN.tensor(f"in_{grid}_features"), GOLDEN.tensor(f"in_{grid}_text_embeds"), strict=True)
    return [
        VisualContext(rows, rows, (1, len(rows)), 1, question=Question("?", rows[:1]), tower=StoredTower(text))
        for rows, text in samples
    ]


def check(selection: Selection, context: VisualContext, mask: np.ndarray, mean: np.ndarray, length: int) -> None:
    kept = mask.nonzero()[0].tolist()
    assert selection.count == length
    assert selection.kept.tolist() == kept
    assert selection.rows.tolist() == [*kept, len(context) - 1]
    assert selection.embeds is not None
    assert torch.equal(selection.embeds[:-1], context.projected[selection.kept])
    np.testing.assert_allclose(selection.embeds[-1].numpy(), mean, **CLOSE)


@pytest.mark.parametrize("grid", GRIDS)
def test_scores_equal_the_authors(grid: str) -> None:
    found = torch.stack([question_scores(context) for context in contexts_of(grid)])
    np.testing.assert_allclose(found.numpy(), GOLDEN[f"out_{grid}_scores"], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("stem", [case for case in CASES if "ratioauto" not in case])
def test_tokens_equal_the_authors(stem: str) -> None:
    [grid] = re.findall(r"_(n\d+)_", stem)
    contexts = contexts_of(grid)
    k = int(len(contexts[0]) * float(GOLDEN[stem + "ratio"])) + 1
    for context, mask, mean in zip(contexts, GOLDEN[stem + "mask"], GOLDEN[stem + "mean_token"], strict=True):
        [selection] = select("trim", context, [k], seed=0, params={})
        check(selection, context, mask, mean, int(GOLDEN[stem + "actual_len"]))


@pytest.mark.parametrize("stem", [case for case in CASES if "ratioauto" in case])
def test_the_automatic_count_equals_the_authors(stem: str) -> None:
    """The authors count outliers over all samples of a batch, which lofi does with the tiles of one image."""
    [grid] = re.findall(r"_(n\d+)_", stem)
    contexts = contexts_of(grid)
    scores = torch.stack([question_scores(context) for context in contexts])
    found = outliers(scores)
    assert found / scores.numel() == float(GOLDEN[stem + "ratio"])
    masks, means, length = GOLDEN[stem + "mask"], GOLDEN[stem + "mean_token"], int(GOLDEN[stem + "actual_len"])
    for context, row, mask, mean in zip(contexts, scores, masks, means, strict=True):
        selection = with_mean(context, row, found // len(contexts))
        check(selection, context, mask, mean, length)
    if len(contexts) == 1:
        [selection] = select("trim_auto", contexts[0], [OWN], seed=0, params={})
        check(selection, contexts[0], masks[0], means[0], length)


def test_every_array_is_read_or_listed() -> None:
    check_every_array(GOLDEN)
