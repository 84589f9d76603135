"""Projectors by matrix products against eigenvectors: the same ranks, the same leverages, or no result."""

import pytest
import torch
from torch import Tensor

from lofi import projector
from lofi.leverage import directions
from lofi.spectra import choose_rank, row_gram

from .test_spectra import low_rank, noise, uneven

RULES = ("energy:0.5", "energy:0.9", "energy:0.99", "fixed:1", "fixed:7", "erank")
TOKENS = {
    "random": noise(96, 200),
    "decaying": uneven(96, 200),
    "shifted": noise(96, 200) + 3.0,
    "wide apart": noise(96, 200) / torch.arange(1, 201) ** 2,
    "few dimensions": noise(96, 24),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("tokens", TOKENS.values(), ids=TOKENS.keys())
def test_it_equals_the_eigenvectors(tokens: Tensor, rule: str) -> None:
    rows, expected = row_gram(tokens), directions(tokens)
    rank = choose_rank(expected.energy, rule, len(tokens), 0)
    found = projector.leading(rows, rule)
    assert found is not None
    assert found.rank == rank
    torch.testing.assert_close(found.matrix.diagonal(), expected.leverage(rank), rtol=0, atol=1e-9)
    torch.testing.assert_close(found.matrix @ found.matrix, found.matrix, rtol=0, atol=1e-9)


def test_what_cannot_be_told_apart_has_no_result() -> None:
    equal = torch.eye(12, dtype=torch.float64)
    for rows in (equal, torch.zeros(5, 5, dtype=torch.float64), torch.full((5, 5), torch.nan, dtype=torch.float64)):
        assert projector.leading(rows, "fixed:3") is None
    assert projector.leading(row_gram(low_rank(20, 30, 4)), "fixed:6") is None  # there are only four directions
    assert projector.leading(equal, "energy:1.0") is None


def test_copies_among_the_tokens_do_no_harm() -> None:
    tokens = noise(10, 30).repeat(4, 1)
    found = projector.leading(row_gram(tokens), "fixed:4")
    assert found is not None
    torch.testing.assert_close(found.matrix.diagonal(), directions(tokens).leverage(4), rtol=0, atol=1e-9)
