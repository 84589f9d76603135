"""MMTok beyond the authors' data: coverage by definition, nothing left to cover, no question."""

from dataclasses import replace

import pytest
import torch

from lofi.errors import UserError
from lofi.methods.context import Question
from lofi.methods.cover import cover_order
from lofi.methods.mmtok import coverage, mmtok
from lofi.methods.select import VisualContext, select


def image(n: int = 12, words: int = 3) -> VisualContext:
    generator = torch.Generator().manual_seed(0)
    hidden, projected = torch.randn(n, 5, generator=generator), torch.randn(n, 8, generator=generator)
    question = Question("Is it red?", torch.randn(words, 8, generator=generator))
    return VisualContext(hidden, projected, (1, n), image_key=1, question=question)


def test_each_choice_adds_most_to_the_coverage() -> None:
    context = image()
    assert context.question is not None
    cover = coverage(context.question.embeds, context.projected, context.hidden)
    torch.testing.assert_close(cover[:3].sum(), torch.tensor(1.0))
    torch.testing.assert_close(cover[3:].sum(), torch.tensor(0.5))
    order = cover_order(cover.T, torch.ones(12), 6).tolist()
    for step in range(6):
        total = {j: float(cover[:, [*order[:step], j]].amax(1).sum()) for j in range(12) if j not in order[:step]}
        assert max(total, key=total.__getitem__) == order[step]


def test_a_word_brings_its_token_first() -> None:
    context = image()
    for token in (2, 7, 11):
        question = Question("it", 5.0 * context.projected[token : token + 1].half())
        [selection] = select("mmtok", replace(context, question=question), [1], seed=0, params={})
        assert selection.kept.tolist() == [token]


def test_when_all_is_covered_the_lower_index_comes_first() -> None:
    context = image()
    same = replace(context, hidden=torch.ones(12, 5), projected=torch.zeros(12, 8))
    [selection] = select("mmtok", same, [5], seed=0, params={})
    assert selection.kept.tolist() == [0, 1, 2, 3, 4]


def test_a_question_without_words_leaves_the_image() -> None:
    context = image(words=0)
    [selection] = select("mmtok", context, [4], seed=0, params={})
    image_alone = coverage(context.projected[:0], context.projected, context.hidden)[-12:]
    expected = cover_order(image_alone.T, torch.ones(12), 4)
    assert torch.equal(selection.kept, expected.sort().values)


def test_no_question_and_nan_are_errors() -> None:
    context = image()
    with pytest.raises(UserError, match="question"):
        mmtok(replace(context, question=None), [4], seed=0)
    context.projected[0, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        mmtok(context, [4], seed=0)
