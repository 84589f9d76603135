"""G-Prune by its definition, and for tokens without edges."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lofi.methods.gprune import gathered


@settings(max_examples=20, deadline=None, derandomize=True)
@given(n=st.integers(1, 15), seed=st.integers(0, 999))
def test_scores_equal_the_matrix_power(n: int, seed: int) -> None:
    tokens = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    x = tokens.double()
    nearness = (x / x.norm(dim=1, keepdim=True)) @ (x / x.norm(dim=1, keepdim=True)).T
    weights = torch.where(nearness >= 0.5, (nearness / 0.03).exp(), 0.0)
    flow = weights / weights.sum(1, keepdim=True)
    expected = x.norm(dim=1) @ torch.linalg.matrix_power(flow, 5) / (nearness >= 0.5).sum(1)
    torch.testing.assert_close(gathered(tokens).double(), expected, rtol=1e-3, atol=1e-5)


def test_tokens_without_edges_keep_their_norms() -> None:
    norms = torch.tensor([3.0, 1.0, 2.0, 0.5])
    torch.testing.assert_close(gathered(norms.diag()), norms)


def test_empty_tokens_hold_nothing_and_take_nothing() -> None:
    tokens = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 3.0], [0.0, 0.0]])
    assert gathered(tokens).tolist() == [2.0, 0.0, 3.0, 0.0]
    assert gathered(torch.zeros(3, 2)).tolist() == [0.0, 0.0, 0.0]


def test_the_weakest_edge_counts_at_half_precision() -> None:
    """Its weight, about 6e-8, would vanish in float16, and with it the edge; float32 keeps it."""
    tokens = torch.tensor([[1.0, 0.0], [0.51, 0.86]], dtype=torch.float16)
    both = gathered(tokens)
    assert both.dtype == torch.float32
    torch.testing.assert_close(both, torch.tensor([0.5, 0.5]), rtol=1e-3, atol=1e-3)


def test_nan_is_an_error() -> None:
    with pytest.raises(ValueError, match="NaN"):
        gathered(torch.tensor([[1.0, torch.nan], [1.0, 1.0]]))
