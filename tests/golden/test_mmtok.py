"""MMTok picks exactly the tokens that the authors' code picks, in the same order."""

import re

import pytest
import torch

from lofi.methods.context import Question
from lofi.methods.cover import cover_order
from lofi.methods.mmtok import coverage
from lofi.methods.select import VisualContext, select

from .vectors import Vectors, check_every_array

GOLDEN = Vectors("vision", "mmtok")
CASES = [name for name in GOLDEN.names if name.endswith("_selection_order")]


def context_of(grid: str) -> VisualContext:
    projected, hidden = GOLDEN.tensor(f"in_{grid}_projected"), GOLDEN.tensor(f"in_{grid}_encoder")
    question = Question("?", GOLDEN.tensor(f"in_{grid}_text"))
    return VisualContext(hidden, projected, (1, len(hidden)), image_key=1, question=question)


@pytest.mark.parametrize("case", CASES)
def test_indices_equal_the_authors(case: str) -> None:
    grid, k = re.findall(r"_(n\d+)_k(\d+)_", case)[0]
    context = context_of(grid)
    assert context.question is not None
    cover = coverage(context.question.embeds, context.projected, context.hidden)
    assert cover_order(cover.T, torch.ones(cover.shape[1]), int(k)).tolist() == GOLDEN[case].tolist()
    kept = GOLDEN[case.replace("selection_order", "sorted")]
    [alone] = select("mmtok", context, [int(k)], seed=0, params={})
    [_, nested] = select("mmtok", context, [len(context) - 1, int(k)], seed=0, params={})
    assert alone.kept.tolist() == nested.kept.tolist() == kept.tolist()


def test_every_array_is_read_or_listed() -> None:
    check_every_array(GOLDEN)
