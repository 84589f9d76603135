"""HiRED's budgets where the published rule loses tokens or has no answer."""

import pytest
import torch
from torch import Tensor

from lofi.methods.context import Tiles
from lofi.methods.hired import covered, split_budget, strips, vote_shares
from lofi.methods.registry import check_params
from lofi.methods.select import Selection, VisualContext, select
from tests.golden.vectors import StoredAttention


def run(votes: Tensor, k: int, layout: tuple[int, int], grid: tuple[int, int], **params: object) -> Selection:
    """k tokens of an image in tiles, whose base tile votes as given; later tokens of a tile are the better ones."""
    count, m = layout[0] * layout[1] + 1, len(votes)
    rows = {0: votes, -2: torch.arange(m) / m}
    attention = StoredAttention(tiles=(StoredAttention(cls_rows=rows),) * count)
    tokens = torch.ones(count * m, 2)
    context = VisualContext(tokens, tokens, grid, image_key=1, attention=attention, tiles=Tiles(count, layout))
    [selection] = select("hired", context, [k], seed=0, params=check_params("hired", params))
    return selection


def counts(selection: Selection, m: int, count: int) -> list[int]:
    return torch.bincount(selection.kept // m, minlength=count).tolist()


def test_regions_of_a_2_by_2_layout() -> None:
    assert strips(10, 4).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3]
    assert covered((4, 4), (2, 2)).tolist() == [0, 0, 1, 1] * 2 + [2, 2, 3, 3] * 2
    assert covered((3, 5), (1, 2)).tolist() == [0, 0, 0, 1, 1] * 3


def test_votes_of_the_right_columns_go_to_the_right_tiles_in_space_and_to_all_rows_in_strips() -> None:
    votes = torch.tensor([0.0, 0.0, 1.0, 1.0] * 4)
    assert counts(run(votes, 16, (2, 2), (4, 4), regions="spatial"), 16, 5) == [8, 0, 4, 0, 4]
    assert counts(run(votes, 16, (2, 2), (4, 4)), 16, 5) == [8, 2, 2, 2, 2]


def test_what_a_full_tile_cannot_hold_goes_to_the_others_and_at_last_to_the_base() -> None:
    votes = torch.tensor([1.0] * 4 + [0.0] * 12)  # alpha 0.8: three voters, all in the first strip
    assert counts(run(votes, 20, (2, 2), (4, 4), alpha=0.8), 16, 5) == [16, 4, 0, 0, 0]
    assert counts(run(votes, 40, (2, 2), (4, 4), alpha=0.8), 16, 5) == [16, 16, 3, 3, 2]
    assert counts(run(votes, 79, (2, 2), (4, 4), alpha=0.8), 16, 5) == [16, 16, 16, 16, 15]
    assert split_budget(79, 0.01, 16, 64) == (15, 64)


def test_without_voters_all_tiles_weigh_the_same() -> None:
    votes = torch.arange(7) / 7
    assert vote_shares(votes, 1.0, strips(7, 3), 3).tolist() == pytest.approx([1 / 3] * 3)
    assert counts(run(votes, 9, (1, 3), (1, 7), alpha=1.0), 7, 4) == [7, 1, 1, 0]


def test_every_count_is_exact_in_tiles_of_odd_size() -> None:
    votes = torch.tensor([0.3, 0.1, 0.9, 0.2, 0.2, 0.2, 0.8])
    for k in range(1, 28):
        for alpha in (0.01, 0.5, 0.9, 1.0):
            assert sum(counts(run(votes, k, (3, 1), (7, 1), alpha=alpha), 7, 4)) == k
            assert sum(counts(run(votes, k, (3, 1), (7, 1), alpha=alpha, regions="spatial"), 7, 4)) == k


def test_a_base_tile_alone_is_one_image() -> None:
    attention = StoredAttention(tiles=(StoredAttention(cls_rows={-2: torch.tensor([0.1, 0.4, 0.2])}),))
    tokens = torch.ones(3, 2)
    context = VisualContext(tokens, tokens, (1, 3), image_key=1, attention=attention, tiles=Tiles(1, (0, 0)))
    [selection] = select("hired", context, [2], seed=0, params={})
    assert selection.kept.tolist() == [1, 2]


def test_nan_votes_and_a_layout_that_does_not_fit_are_errors() -> None:
    votes = torch.full((16,), torch.nan)
    with pytest.raises(ValueError, match="layer 0"):
        run(votes, 5, (2, 2), (4, 4))
    with pytest.raises(ValueError, match="strips"):
        run(torch.ones(16), 5, (2, 2), (4, 5), regions="spatial")
