"""VisionZip: the split of k, the two treatments of CLS, and small counts."""

import pytest
import torch
from torch import Tensor

from lofi.methods.context import saliency, top
from lofi.methods.select import Selection, VisualContext, select
from lofi.methods.visionzip import contextual_count, targets_among, tile_order
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


def test_the_order_of_tiles_with_unequal_rows() -> None:
    """Two tiles of 1 x 2 tokens side by side, of 3 and 2 rows: CLS, dominant, contextual."""
    dominant = [torch.tensor([1]), torch.tensor([0])]
    assert tile_order(dominant, [3, 2], cls_rows=1, grid=(1, 2), layout=(1, 2)).tolist() == [1, 4, 0, 3, 2]
    # One above the other, two rows of tokens each: raster order goes through the first tile first.
    dominant = [torch.tensor([0, 3]), torch.tensor([1])]
    assert tile_order(dominant, [2, 1], cls_rows=0, grid=(2, 2), layout=(2, 1)).tolist() == [0, 1, 2]
    assert tile_order(dominant, [2, 1], cls_rows=0, grid=(2, 2), layout=(1, 2)).tolist() == [0, 2, 1]


@pytest.mark.parametrize("where", ["hidden", "keys", "scores"])
def test_nan_is_an_error(where: str) -> None:
    context = context_of(16)
    stored = {"hidden": context.hidden, "keys": context.attention.all_keys[-2], "scores": context.attention.cls(-2)}
    broken: Tensor = stored[where]
    broken[-1] = torch.nan
    with pytest.raises((ValueError, RuntimeError), match="NaN"):
        run(context, 8)
