"""VScan's windows on other grids, its exact counts, and its merging by definition."""

import pytest
import torch
from torch import Tensor

from lofi.methods.context import complement
from lofi.methods.select import Selection, VisualContext, select
from lofi.methods.similarity import cosines
from lofi.methods.vscan import local_picks, merge, turns, window_map
from tests.golden.vectors import StoredAttention


def run(tokens: Tensor, early: Tensor, late: Tensor, grid: tuple[int, int], k: int, n_extra: int) -> Selection:
    rows = {5: early, -2: late}
    attention = StoredAttention(n_extra=n_extra, **{"cls_rows" if n_extra else "received_rows": rows})
    context = VisualContext(tokens, tokens, grid, image_key=1, attention=attention)
    [selection] = select("vscan", context, [k], seed=0, params={})
    return selection


def test_windows_of_other_grids() -> None:
    assert window_map((24, 24), by_cls=True).bincount().tolist() == [36] * 16
    assert window_map((27, 1), by_cls=True).bincount().tolist() == [6, 6, 6, 9]
    assert window_map((2, 3), by_cls=True).tolist() == [0, 1, 2, 3, 4, 5]
    assert window_map((11, 1), by_cls=False).bincount().tolist() == [4, 7]
    assert window_map((3, 9), by_cls=False).bincount().tolist() == [12, 15]


def test_no_window_gives_more_than_its_quota() -> None:
    windows = torch.tensor([0, 0, 0, 1, 1, 1])
    ranking = torch.tensor([2, 0, 1, 5, 3, 4])
    turn = turns(ranking, windows)
    assert turn.tolist() == [0, 1, 2, 0, 1, 2]
    assert local_picks(ranking, turn, 4, 2).tolist() == [2, 0, 5, 3]
    assert local_picks(ranking, turn, 3, 2).tolist() == [2, 0, 5]


def test_without_a_cls_token_a_window_gives_its_share_rounded_up() -> None:
    early = torch.zeros(64)
    early[[0, 1, 2, 4, 5, 6]] = torch.tensor([6.0, 5.0, 4.0, 3.0, 2.0, 1.0])  # windows 0 and 1 of four
    # 5 local tokens: ceil(5 / 4) = 2 from each window, the fifth is the first of window 2; then 5 by the end.
    late = torch.arange(64.0)
    assert run(torch.eye(64), early, late, (8, 8), 10, 0).kept.tolist() == [0, 1, 4, 5, 32, 59, 60, 61, 62, 63]


@pytest.mark.parametrize("n_extra", [0, 1])
@pytest.mark.parametrize("grid", [(5, 5), (3, 7), (1, 15), (8, 8)])
def test_every_count_is_exact(grid: tuple[int, int], n_extra: int) -> None:
    n = grid[0] * grid[1]
    generator = torch.Generator().manual_seed(n)
    tokens, early, late = (torch.rand(n, d, generator=generator) for d in (4, 1, 1))
    for k in range(1, n):
        selection = run(tokens, early[:, 0], late[:, 0], grid, k, n_extra)
        assert selection.count == len(selection.kept) == k


def test_what_the_windows_do_not_give_is_global() -> None:
    late = torch.zeros(64)
    late[:6] = torch.tensor([6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    # 16 windows and 4 local tokens: no window gives one, so all eight are global.
    assert run(torch.eye(64), torch.rand(64), late, (8, 8), 8, 1).kept.tolist() == list(range(8))


def test_a_dropped_token_joins_its_nearest_and_all_weigh_the_same() -> None:
    tokens = torch.tensor([[4.0, 0.0], [0.0, 2.0], [2.0, 0.2], [1.0, 0.1], [0.0, 0.0]])
    kept = torch.tensor([0, 1])
    merged = merge(tokens, cosines(tokens), kept)
    # the zero token is as near to both, and joins the first
    torch.testing.assert_close(merged, torch.tensor([[7.0 / 4, 0.3 / 4], [0.0, 2.0]]))


def test_merging_is_its_definition() -> None:
    tokens = torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
    kept = torch.tensor([1, 4, 9, 22])
    nearest = torch.nn.functional.cosine_similarity(tokens[:, None], tokens[kept][None], dim=-1).argmax(1)
    groups = [[int(i)] for i in kept]
    for i in complement(kept, 30).tolist():
        groups[int(nearest[i])].append(i)
    expected = torch.stack([tokens[group].mean(0) for group in groups])
    torch.testing.assert_close(merge(tokens, cosines(tokens), kept), expected)


def test_rows_have_the_type_that_the_language_model_reads() -> None:
    tokens = torch.rand(16, 4).half()
    selection = run(tokens, torch.rand(16), torch.rand(16), (4, 4), 5, 1)
    assert selection.embeds is not None
    assert selection.embeds.dtype == torch.float16
    tokens[2] = torch.inf
    with pytest.raises(ValueError, match="NaN"):
        run(tokens, torch.rand(16), torch.rand(16), (4, 4), 5, 1)
