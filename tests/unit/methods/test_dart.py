"""DART at counts that 8 pivots do not divide, with few pivots, and with equal tokens."""

import pytest
import torch

from lofi.methods.dart import least_alike, visits
from lofi.methods.decoder import DecoderView
from lofi.methods.registry import check_params
from lofi.methods.select import select_stage
from tests.golden.decoding import StoredDecoderAttention, view


def prompt(v: int, t: int, *, alike: bool = False) -> DecoderView:
    generator = torch.Generator().manual_seed(v)
    states, keys = torch.randn(3 + v + t, 8, generator=generator), torch.randn(2, 3 + v + t, 4, generator=generator)
    if alike:
        states, keys = torch.zeros_like(states), torch.ones_like(keys)
    attention = StoredDecoderAttention({1: (torch.empty(0), keys)})
    return view(3 + v + t, 3, v, hidden=states, normed=states, attention=attention)


def kept(seen: DecoderView, k: int) -> list[int]:
    return list(select_stage("dart", seen, k, seed=0, params=check_params("dart", {})).kept.tolist())


@pytest.mark.parametrize("t", [0, 1, 3, 9])
@pytest.mark.parametrize("alike", [False, True])
def test_every_count_is_exact(t: int, alike: bool) -> None:
    for v in (2, 4, 5, 7, 25, 40):
        seen = prompt(v, t, alike=alike)
        for k in range(1, v):
            assert len(kept(seen, k)) == k


def test_up_to_four_the_longest_keys_are_all() -> None:
    seen = prompt(20, 5)
    lengths = seen.attention.keys(1)[:, seen.visual].abs().sum((0, 2))
    for k in range(1, 5):
        assert kept(seen, k) == sorted(lengths.argsort(descending=True)[:k].tolist())


def test_the_first_visited_pivots_take_what_is_over() -> None:
    likeness = torch.tensor([[0.9, 0.1, 0.5, 0.3, 0.7, 0.0], [0.0, 0.1, 0.2, 0.3, 0.4, 0.0]])
    start = torch.tensor([False, False, False, False, False, True])
    # The first takes tokens 1 and 3; of what is left, the second takes 0, which is least like it.
    assert least_alike(likeness, start, 4).nonzero().squeeze(1).tolist() == [0, 1, 3, 5]
    assert not start[:5].any(), "what came in is not changed"


def test_equal_cosines_go_to_the_lower_index() -> None:
    assert least_alike(torch.zeros(2, 6), torch.zeros(6, dtype=torch.bool), 3).tolist() == [True] * 3 + [False] * 3


def test_pivots_are_visited_in_the_order_of_a_set() -> None:
    # A table of 32 places for 8 numbers: by remainder, and 64 finds the place of 32 taken.
    order = visits(torch.tensor([70, 33, 32, 64]), torch.tensor([95, 100, 101, 105]))
    assert order.tolist() == [32, 33, 64, 100, 101, 70, 105, 95]


def test_keys_with_nan_are_an_error() -> None:
    seen = prompt(9, 4)
    seen.attention.keys(1)[0, 5, 0] = torch.nan
    with pytest.raises(ValueError, match="decoder layer 1"):
        kept(seen, 3)
