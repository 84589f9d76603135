"""VisPruner where the authors' code fails: lists of odd length, counts below a round, ties and empty tokens."""

import pytest
import torch
from torch import Tensor

from lofi.methods.registry import check_params
from lofi.methods.select import Selection, VisualContext, select
from lofi.methods.similarity import cosines
from lofi.methods.vispruner import diverse
from tests.golden.vectors import StoredAttention


def run(tokens: Tensor, attention: Tensor, k: int, important: float = 0.5) -> Selection:
    stored = StoredAttention(cls_rows={-2: attention})
    context = VisualContext(tokens, tokens, (1, len(tokens)), image_key=1, attention=stored)
    params = check_params("vispruner", {"important": important})
    [selection] = select("vispruner", context, [k], seed=0, params=params)
    return selection


def test_a_list_of_odd_length_gives_its_even_places_one_more() -> None:
    """Cosines of the even places 0, 2, 4 to their nearest odd place: 0.9, 0.1, 0.5."""
    nearness = torch.zeros(5, 5)
    nearness[0, 1], nearness[2, 3], nearness[4, 1] = 0.9, 0.1, 0.5
    left, rounds = diverse(torch.arange(5), nearness, 4)
    assert (left.tolist(), rounds) == ([4, 2, 1, 3], 1)
    assert diverse(torch.arange(5), nearness, 2)[0].tolist() == [1, 3]


def test_a_round_drops_all_even_places_before_the_next_begins() -> None:
    nearness = cosines(torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), dtype=torch.float64)
    left, rounds = diverse(torch.arange(12), nearness, 3)
    assert rounds == 2  # 12 - 6 - 3: the first round drops six, for there are no more in A
    assert set(left.tolist()) <= {1, 3, 5, 7, 9, 11}


@pytest.mark.parametrize("n", [7, 24, 25])
@pytest.mark.parametrize("important", [0.0, 0.3, 0.5, 1.0])
def test_every_count_holds(n: int, important: float) -> None:
    generator = torch.Generator().manual_seed(n)
    tokens, attention = torch.randn(n, 4, generator=generator), torch.rand(n, generator=generator)
    ranking = attention.argsort(descending=True)
    for k in range(1, n):
        selection = run(tokens, attention, k, important)
        assert selection.count == k
        assert set(ranking[: int(k * important)].tolist()) <= set(selection.kept.tolist())


def test_ties_go_to_the_earlier_place_of_the_list() -> None:
    """Equal tokens: of the even places 0, 2, 4 the first are dropped."""
    tokens = torch.ones(5, 4)  # unit rows of halves, exact in any arithmetic
    assert run(tokens, torch.linspace(1, 0, 5), 4, important=0.0).kept.tolist() == [1, 2, 3, 4]
    assert run(tokens, torch.linspace(1, 0, 5), 3, important=0.0).kept.tolist() == [1, 3, 4]


def test_empty_tokens_are_like_no_other() -> None:
    tokens = torch.zeros(6, 4)
    tokens[3:] = 1.0
    assert run(tokens, torch.linspace(1, 0, 6), 5, important=0.0).kept.tolist() == [0, 1, 2, 3, 5]


def test_nan_is_an_error() -> None:
    tokens = torch.ones(6, 4)
    with pytest.raises(ValueError, match="NaN"):
        run(tokens.index_fill(0, torch.tensor([2]), torch.nan), torch.rand(6), 3)
    with pytest.raises(ValueError, match="NaN"):
        run(tokens, torch.tensor([1.0, 0.5, torch.nan, 0.2, 0.1, 0.0]), 3)
