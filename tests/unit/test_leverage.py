"""Leverage against singular value decompositions, from either side of the rank and from either Gram matrix."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lofi.leverage import Leverages, directions
from lofi.spectra import row_gram

from .test_spectra import SHAPES, low_rank, noise, uneven

QUICK = settings(max_examples=25, deadline=None, derandomize=True)


@QUICK
@given(SHAPES, st.integers(1, 12))
def test_leverage_equals_an_svd_and_sums_to_the_rank(shape: tuple[int, int, int], rank: int) -> None:
    n, d, seed = shape
    x = uneven(n, d, seed=seed)
    found = directions(x)
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    assert len(found.energy) == min(n, d)
    torch.testing.assert_close(found.energy.sqrt(), s, rtol=1e-6, atol=1e-7 * float(s[0]))
    rank = min(rank, len(found.energy))
    leverage = found.leverage(rank)
    assert float(leverage.sum()) == pytest.approx(rank, rel=1e-9)
    torch.testing.assert_close(leverage, u[:, :rank].square().sum(1), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("n", "d"), [(9, 20), (20, 9), (1, 5), (2, 2)])
def test_any_run_of_directions_is_that_part_of_all(n: int, d: int) -> None:
    x = uneven(n, d)
    found = directions(x)
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    r = len(s)
    for first in range(r + 1):
        for last in range(first, r + 1):
            torch.testing.assert_close(found.squares(first, last), u[:, first:last].square(), rtol=0, atol=1e-6)
    for rank in range(r + 1):
        torch.testing.assert_close(found.leverage(rank), u[:, :rank].square().sum(1), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("n", "d"), [(12, 40), (40, 12)])
def test_leverage_is_invariant_to_a_rotation_of_the_features(n: int, d: int) -> None:
    x = uneven(n, d)
    rotation = torch.linalg.qr(noise(d, d, seed=5)).Q
    before, after = (directions(y).leverage(5) for y in (x, x @ rotation))
    torch.testing.assert_close(before, after, rtol=1e-9, atol=1e-12)


def test_a_deficient_matrix_has_as_many_directions_as_its_rank() -> None:
    for n, d in ((12, 40), (40, 12)):
        x = low_rank(n, d, 4).float()
        found = directions(x)
        assert found.squares(0, len(found.energy)).shape == (n, 4)
        torch.testing.assert_close(found.energy.sum(), x.double().square().sum(), rtol=1e-6, atol=0)
    found = directions(torch.zeros(6, 3))
    assert found.energy.shape == (0,)
    assert found.squares(0, 0).shape == (6, 0)
    assert found.leverage(0).tolist() == [0.0] * 6
    with pytest.raises(ValueError, match="NaN"):
        directions(torch.full((3, 3), math.nan))


def test_the_rules_of_a_rank_are_followed() -> None:
    x = uneven(20, 30)
    leverages = Leverages(x, row_gram(x))
    u = torch.linalg.svd(x, full_matrices=False).U
    for rule, k, rank in (("fixed:3", 1, 3), ("budget", 5, 5), ("budget", 7, 7), ("fixed:99", 1, 19)):
        top = leverages.at(rule, k)
        assert top.rank == rank
        torch.testing.assert_close(top.leverage, u[:, :rank].square().sum(1), rtol=0, atol=1e-6)
    assert leverages.at("budget", 5) is leverages.at("fixed:5", 1)
