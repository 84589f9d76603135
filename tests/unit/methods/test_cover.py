"""Greedy cover by its definition, and where no token gains anything."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lofi.methods.cover import cover_order
from lofi.methods.similarity import cosines


@settings(max_examples=20, deadline=None, derandomize=True)
@given(n=st.integers(2, 12), seed=st.integers(0, 999))
def test_every_choice_has_the_largest_gain(n: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    nearness = cosines(torch.randn(n, 4, generator=generator)).double()
    weights = torch.rand(n, generator=generator).double()
    order = cover_order(nearness, weights, n).tolist()
    assert sorted(order) == list(range(n))
    for step, choice in enumerate(order):
        gains = {
            j: weights[j] * sum(max(0.0, nearness[i, j] - max([0.0, *nearness[i, order[:step]]])) for i in range(n))
            for j in range(n)
            if j not in order[:step]
        }
        assert gains[choice] >= max(gains.values()) - 1e-9


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_tokens_that_gain_nothing_come_once_each_in_their_order(weight: float) -> None:
    weights = torch.full((6,), weight)
    assert cover_order(torch.zeros(6, 6), weights, 6).tolist() == [0, 1, 2, 3, 4, 5]
    assert cover_order(torch.ones(6, 6), weights, 6).tolist() == [0, 1, 2, 3, 4, 5]


def test_attention_decides_among_equals() -> None:
    assert cover_order(torch.eye(4), torch.tensor([0.1, 0.4, 0.0, 0.5]), 4).tolist() == [3, 1, 0, 2]


def test_a_covered_token_comes_late_however_salient() -> None:
    nearness = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert cover_order(nearness, torch.tensor([0.5, 0.4, 0.1]), 3).tolist() == [0, 2, 1]


def test_a_search_that_makes_every_sum_anew_chooses_the_same() -> None:
    """Equal tokens among them, so that ties are many."""
    generator = torch.Generator().manual_seed(3)
    near, weights = torch.rand(60, 40, generator=generator), torch.rand(60, generator=generator)
    near[30:], weights[30:] = near[:30].clone(), weights[:30].clone()
    covered, chosen, expected = torch.zeros(40), torch.zeros(60, dtype=torch.bool), []
    for _ in range(60):
        gains = weights * (near - covered).clamp_min(0.0).double().sum(1).float()
        choice = int(gains.masked_fill(chosen, -1.0).argmax())
        expected.append(choice)
        chosen[choice] = True
        covered = torch.maximum(covered, near[choice])
    assert cover_order(near, weights, 60).tolist() == expected
