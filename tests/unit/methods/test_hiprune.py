"""HiPrune at the edges of the grid, and where anchors with neighbours are too many."""

import pytest
import torch
from torch import Tensor

from lofi.methods.hiprune import anchor_count, with_neighbours
from lofi.methods.registry import check_params
from lofi.methods.select import VisualContext, select
from tests.golden.vectors import StoredAttention


def run(middle: Tensor, end: Tensor, grid: tuple[int, int], k: int, alpha: float, depth: int = 24) -> list[int]:
    tokens = torch.ones(len(middle), 2)
    attention = StoredAttention(n_extra=0, depth=depth, received_rows={round(depth / 3): middle, -2: end})
    context = VisualContext(tokens, tokens, grid, image_key=1, attention=attention)
    [selection] = select("hiprune", context, [k], seed=0, params=check_params("hiprune", {"alpha": alpha}))
    return selection.kept.tolist()


def test_neighbours_are_steps_in_raster_order() -> None:
    assert with_neighbours(torch.tensor([7]), 3, 15).tolist() == [4, 6, 7, 8, 10]
    assert with_neighbours(torch.tensor([3]), 3, 15).tolist() == [0, 2, 3, 4, 6]  # 2 ends the row above
    assert with_neighbours(torch.tensor([0, 14]), 3, 15).tolist() == [0, 1, 3, 11, 13, 14]
    assert with_neighbours(torch.tensor([], dtype=torch.long), 3, 15).tolist() == []


def test_half_an_anchor_rounds_to_even() -> None:
    assert [anchor_count(k, 0.1) for k in (25, 75, 192, 128, 64)] == [0, 2, 4, 3, 1]


def test_the_rest_is_what_the_last_layer_looks_at() -> None:
    middle, end = torch.zeros(24), torch.zeros(24)
    middle[8] = 1.0
    end[[8, 9, 20, 3]] = torch.tensor([5.0, 4.0, 3.0, 2.0])  # 8 and 9 are taken already
    assert run(middle, end, (4, 6), 7, 0.7) == [2, 3, 7, 8, 9, 14, 20]
    assert run(middle, end, (4, 6), 2, 0.1) == [8, 9]


def test_too_many_neighbours_go_by_the_object_layer_so_that_anchors_stay() -> None:
    middle = torch.zeros(24)
    middle[[8, 14, 7]] = torch.tensor([3.0, 2.0, 1.0])
    assert run(middle, torch.zeros(24), (4, 6), 3, 1.0) == [7, 8, 14]
    assert run(middle, torch.zeros(24), (4, 6), 4, 1.0) == [2, 7, 8, 14]


def test_an_encoder_of_another_depth() -> None:
    assert run(torch.ones(6), torch.arange(6.0), (2, 3), 2, 0.0, depth=12) == [4, 5]


def test_nan_is_an_error() -> None:
    with pytest.raises(ValueError, match="NaN"):
        run(torch.ones(6), torch.full((6,), torch.nan), (2, 3), 2, 0.1)
