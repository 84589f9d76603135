"""VisionZip: the split of k, the two treatments of CLS, and small counts."""

import pytest
import torch
from torch import Tensor

from lofi.errors import UserError
from lofi.methods.context import Tiles, saliency, top
from lofi.methods.select import Selection, VisualContext, select
from lofi.methods.visionzip import Zipped, contextual_count, targets_among, tile_order
from tests.golden.vectors import StoredAttention


def context_of(n: int, *, n_extra: int = 1, d: int = 8, heads: int = 2) -> VisualContext:
    generator = torch.Generator().manual_seed(n)
    hidden, keys = torch.randn(n_extra + n, d, generator=generator), torch.randn(n_extra + n, 6, generator=generator)
    scores = torch.rand(n, generator=generator)
    attention = StoredAttention(
        n_extra=n_extra, heads=heads, cls_rows={-2: scores}, received_rows={-2: scores}, all_keys={-2: keys}
    )
    extra = hidden[:n_extra] if n_extra else None
    return VisualContext(hidden[n_extra:], hidden[n_extra:], (1, n), 1, attention, extra=extra)


def run(context: VisualContext, k: int, cls: str = "auto") -> Selection:
    [selection] = select("visionzip", context, [k], seed=0, params={"cls": cls})
    return selection


@pytest.mark.parametrize(("k", "count"), [(1, 0), (3, 0), (4, 1), (64, 10), (128, 20), (192, 30), (575, 90)])
def test_ten_of_64_rows_are_contextual(k: int, count: int) -> None:
    assert contextual_count(k) == count


def test_every_target_exists_for_every_count() -> None:
    for m in range(1, 30):
        for count in range(m + 1):
            targets = targets_among(torch.arange(100, 100 + m), count)
            assert len(targets) == count
            assert bool((targets.diff() > 0).all())


def test_without_the_cls_row_d_image_tokens_are_dominant() -> None:
    context = context_of(25)
    for k in (1, 2, 8, 24):
        d = k - contextual_count(k)
        front = top(saliency(context), d)
        dropped = run(context, k, "drop")
        assert dropped.rows[:d].tolist() == front.tolist()
        assert torch.equal(dropped.embeds[:d], context.hidden[front])
        kept = run(context, k)
        assert torch.equal(kept.embeds[0], context.extra[0])
        assert kept.rows[:d].tolist() == [0, *top(saliency(context), d - 1).tolist()]


def test_an_encoder_without_cls_behaves_as_drop() -> None:
    context = context_of(24, n_extra=0)
    for k in (1, 9, 23):
        with pytest.raises(UserError, match="cls: keep needs a CLS token, which the vision encoder lacks"):
            run(context, k, "keep")
        auto, drop = run(context, k), run(context, k, "drop")
        assert torch.equal(auto.embeds, drop.embeds)
        assert torch.equal(auto.kept, drop.kept)


def test_one_row_is_the_cls_row() -> None:
    selection = run(context_of(9), 1)
    assert selection.kept.tolist() == []
    assert selection.rows.tolist() == [0]


def test_a_contextual_row_is_its_target_plus_the_mean_of_those_that_joined() -> None:
    """Two directions of keys among the tokens that are not dominant: each target gathers its own."""
    n, k = 14, 10  # eight dominant rows with CLS, two contextual
    side = torch.tensor([0, 1] * 7)
    keys = torch.cat([torch.ones(1, 2), torch.eye(2)[side]])
    attention = StoredAttention(cls_rows={-2: torch.arange(n, 0, -1.0)}, all_keys={-2: keys})
    hidden = torch.randn(n, 4, generator=torch.Generator().manual_seed(0))
    context = VisualContext(hidden, hidden, (1, n), 1, attention, extra=torch.zeros(1, 4))
    selection = run(context, k)
    rest = range(7, 14)
    targets = [7, 10]
    assert selection.rows.tolist() == [0, *range(7), *targets]
    for row, target in zip(selection.embeds[-2:], targets, strict=True):
        joined = [i for i in rest if i not in targets and side[i] == side[target]]
        torch.testing.assert_close(row, hidden[target] + hidden[joined].mean(0))


def zipped(rows: int, cls_rows: int, *dominant: int) -> Zipped:
    return Zipped(torch.zeros(rows, 2), cls_rows, torch.tensor(dominant), torch.zeros(0, dtype=torch.long))


def test_the_order_of_tiles_with_unequal_rows() -> None:
    """Two tiles of 1 x 2 tokens side by side, of 3 and 2 rows: CLS, dominant, contextual."""
    side = [zipped(3, 1, 1), zipped(2, 1, 0)]
    assert tile_order(side, (1, 2), (1, 2)).tolist() == [1, 4, 0, 3, 2]
    # The second has no CLS row, as it keeps all of its tokens.
    assert tile_order([zipped(3, 1, 1), zipped(2, 0, 0, 1)], (1, 2), (1, 2)).tolist() == [1, 3, 4, 0, 2]
    # One above the other, two rows of tokens each: raster order goes through the first tile first.
    two = [zipped(2, 0, 0, 3), zipped(1, 0, 1)]
    assert tile_order(two, (2, 2), (2, 1)).tolist() == [0, 1, 2]
    assert tile_order(two, (2, 2), (1, 2)).tolist() == [0, 2, 1]
    # Tiles higher than wide: the second begins below all of the first.
    assert tile_order([zipped(1, 0, 2), zipped(1, 0, 0)], (3, 1), (2, 1)).tolist() == [0, 1]


def tiled(n: int, count: int, layout: tuple[int, int], grid: tuple[int, int]) -> VisualContext:
    """`count` tiles of n tokens; the CLS row of tile i is i + 0.5 everywhere, its token j is 100 i + j."""
    hidden = (100.0 * torch.arange(count)[:, None] + torch.arange(n)).reshape(-1, 1).expand(-1, 3).clone()
    tiles = tuple(
        StoredAttention(cls_rows={-2: torch.arange(n, 0, -1.0)}, all_keys={-2: torch.ones(1 + n, 2)})
        for _ in range(count)
    )
    extra = (torch.arange(count) + 0.5)[:, None].expand(-1, 3).clone()
    attention = StoredAttention(tiles=tiles)
    return VisualContext(hidden, hidden, grid, 1, attention, extra=extra, tiles=Tiles(count, layout))


def test_the_rows_of_tiles_stand_where_they_come_from() -> None:
    context = tiled(6, 3, (1, 2), (2, 3))
    selection = run(context, 13)  # 5, 4 and 4 of the tiles, one of each contextual: the first that is not dominant
    base, others = [0.5, 0, 1, 2, 3 + 4.5], [100, 101, 200, 201, 1.5, 2.5, 102 + 104, 202 + 204]
    assert selection.embeds[:, 0].tolist() == [*base, *others]
    assert selection.rows.tolist() == [0, 0, 1, 2, 3, 6, 7, 12, 13, 6, 12, 8, 14]
    assert selection.kept.tolist() == [0, 1, 2, 3, 6, 7, 8, 12, 13, 14]
    assert selection.trace == {"tiles": 3}


def test_a_tile_that_keeps_all_keeps_it_as_it_is() -> None:
    context = tiled(6, 3, (1, 2), (2, 3))
    selection = run(context, 17)  # 6, 6 and 5
    whole = context.hidden[:12, 0].tolist()
    embeds = selection.embeds[:, 0].tolist()
    assert embeds[:6] == whole[:6]
    assert embeds[6:15] == [100, 101, 102, 200, 201, 202, 103, 104, 105]  # two rows of three tokens in each tile
    assert embeds[15] == 2.5
    assert selection.kept.tolist() == list(range(16))


def test_one_tile_is_the_image_and_tiles_that_do_not_fit_have_no_order() -> None:
    one = tiled(6, 1, (0, 0), (2, 3))
    assert run(one, 5).rows.tolist() == [0, 0, 1, 2, 3]
    for layout, grid in [((2, 2), (2, 3)), ((1, 2), (3, 3))]:
        with pytest.raises(ValueError, match="do not fit 2 tiles of 6 tokens"):
            run(tiled(6, 3, layout, grid), 9)


@pytest.mark.parametrize("where", ["hidden", "keys", "scores"])
def test_nan_is_an_error(where: str) -> None:
    context = context_of(16)
    stored = {"hidden": context.hidden, "keys": context.attention.all_keys[-2], "scores": context.attention.cls(-2)}
    broken: Tensor = stored[where]
    broken[-1] = torch.nan
    with pytest.raises((ValueError, RuntimeError), match="NaN"):
        run(context, 8)
