"""Whole shares: the sum is exact, and no part holds more than it can."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lofi.methods.allotment import allot, fill_up, floors


def test_shares_are_cut_and_the_rest_goes_to_the_largest_weight() -> None:
    weights = torch.tensor([0.2, 0.5, 0.3])
    assert floors(weights, 9, [9, 9, 9]) == [1, 4, 2]
    assert allot(weights, 9, [9, 9, 9]) == [1, 5, 3]
    assert allot(weights, 9, [9, 4, 9]) == [2, 4, 3]
    assert allot(torch.zeros(3), 5, [9, 1, 9]) == [2, 1, 2]


def test_the_product_is_float32() -> None:
    assert floors(torch.tensor([70 / 288]), 288, [576]) == [70]


def test_too_much_and_nan_are_errors() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        fill_up([0], [3], [0], 4)
    with pytest.raises(ValueError, match="NaN"):
        allot(torch.tensor([torch.nan]), 1, [1])


@given(data=st.data(), rooms=st.lists(st.integers(0, 9), min_size=1, max_size=8))
def test_the_sum_is_exact(data: st.DataObject, rooms: list[int]) -> None:
    total = data.draw(st.integers(0, sum(rooms)))
    weights = torch.tensor(data.draw(st.lists(st.floats(0, 1, width=32), min_size=len(rooms), max_size=len(rooms))))
    counts = allot(weights / max(float(weights.sum()), 1e-6), total, rooms)
    assert sum(counts) == total
    assert all(0 <= count <= room for count, room in zip(counts, rooms, strict=True))
