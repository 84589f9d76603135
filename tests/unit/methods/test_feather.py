"""FEATHER at counts and grids that its authors never ask for."""

import pytest
import torch
from torch import Tensor

from lofi.errors import UserError
from lofi.methods.context import best_first
from lofi.methods.decoder import DecoderView
from lofi.methods.feather import attended, lattice, united
from lofi.methods.select import select_stage
from tests.golden.decoding import attention_of_weights, view


def seen_with(scores: Tensor, **fields: object) -> DecoderView:
    weights = attention_of_weights(7, torch.cat([scores, torch.zeros(2)])[None], rotary=False)
    return view(len(scores) + 2, 0, len(scores), layer=8, attention=weights, **fields)


def kept(seen: DecoderView, k: int, stride: int = 3) -> list[int]:
    return list(select_stage("feather", seen, k, seed=0, params={"stride": stride}).kept.tolist())


def test_the_grid_and_the_best_beside_it_for_every_count() -> None:
    height, width, stride = 5, 7, 3
    scores = torch.rand(35, generator=torch.Generator().manual_seed(0))
    seen = seen_with(scores, grid=(height, width))
    grid = [row * width + column for row in (0, 3) for column in (0, 3, 6)]
    ranking = scores.argsort(descending=True).tolist()
    for k in range(1, 35):
        inside = [token for token in ranking if token in grid]
        beside = [token for token in ranking if token not in grid]
        assert kept(seen, k, stride) == sorted((inside + beside)[:k])


def test_the_count_of_attended_tokens_is_the_smallest_that_gives_the_union() -> None:
    ranking, on_grid = best_first(torch.rand(36, generator=torch.Generator().manual_seed(1))), lattice((6, 6), 4)
    sizes = [len(united(ranking, on_grid, t)) for t in range(37)]
    assert [attended(ranking, on_grid, k) for k in range(4, 37)] == [sizes.index(k) for k in range(4, 37)]


def test_a_stride_beyond_the_image_leaves_its_first_token() -> None:
    assert kept(seen_with(torch.tensor([0.1, 0.2, 0.3, 0.4])), 2, stride=9) == [0, 3]


def test_after_a_drop_attention_alone_decides() -> None:
    assert kept(seen_with(torch.tensor([0.1, 0.2, 0.3, 0.4]), n=9), 2) == [2, 3]


def test_tokens_that_fill_no_grid_are_refused() -> None:
    with pytest.raises(UserError, match=r"\(2, 3\).*5 tokens"):
        kept(seen_with(torch.rand(5), grid=(2, 3)), 2)
