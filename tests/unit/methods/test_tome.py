"""ToMe after the encoder: rounds, sizes and order where no golden vector looks."""

import pytest
import torch
from torch import Tensor

from lofi.methods.select import Selection, VisualContext, select
from lofi.methods.tome import match


def run(tokens: Tensor, *ks: int) -> list[Selection]:
    context = VisualContext(tokens, tokens, (1, len(tokens)), image_key=1)
    return select("tome", context, ks, seed=0, params={})


def tokens_of(n: int, d: int = 12) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(n))


def test_one_row_is_the_mean_of_all_tokens() -> None:
    for n in (2, 7, 24, 25):
        tokens = tokens_of(n)
        [selection] = run(tokens, 1)
        assert selection.kept.tolist() == [0]
        torch.testing.assert_close(selection.embeds[0], tokens.mean(0))


def test_sharing_rounds_changes_no_count() -> None:
    tokens = tokens_of(25)
    ks = [3, 24, 1, 13, 12, 3, 7]
    for together, k in zip(run(tokens, *ks), ks, strict=True):
        [alone] = run(tokens, k)
        assert torch.equal(together.kept, alone.kept)
        assert torch.equal(together.embeds, alone.embeds)


def test_rows_are_means_of_the_tokens_behind_them_in_the_order_of_the_image() -> None:
    """Four directions, each several times: what is left at k = 4 are their means, at their first tokens."""
    which = torch.tensor([2, 2, 0, 0, 0, 1, 1, 3, 1, 3])
    scale = torch.arange(1.0, 11.0)
    tokens = torch.eye(4)[which] * scale[:, None]
    [selection] = run(tokens, 4)
    assert selection.kept.tolist() == [0, 2, 5, 7]
    means = torch.stack([tokens[which == direction].mean(0) for direction in (2, 0, 1, 3)])
    torch.testing.assert_close(selection.embeds, means)


def test_an_odd_row_out_waits_for_the_next_round() -> None:
    matching = match(tokens_of(7), has_cls=False)
    assert len(matching.cut(7).source) == 3
    assert len(matching.cut(7).unmerged) == 1
    assert sorted(matching.cut(2).owner.unique().tolist()) == list(range(5))


def test_cls_never_merges_and_stays_first() -> None:
    tokens = tokens_of(9)
    tokens[1] = tokens[0]  # the nearest token of all, at an odd place
    step = match(tokens, has_cls=True).cut(9)
    assert 0 not in step.source.tolist()
    assert step.unmerged.tolist() == [0]
    assert step.owner[0] == 0


def test_the_projector_reads_merged_rows_in_its_own_type() -> None:
    tokens = tokens_of(10).half()
    seen: list[Tensor] = []

    def project(rows: Tensor) -> Tensor:
        seen.append(rows)
        return rows.float() @ torch.ones(12, 3)

    context = VisualContext(tokens, project(tokens), (2, 5), image_key=1, project=project)
    [selection] = select("tome", context, [6], seed=0, params={})
    assert seen[-1].dtype == torch.float16
    assert selection.embeds.shape == (6, 3)


def test_nan_is_an_error() -> None:
    tokens = tokens_of(8)
    tokens[3, 2] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        run(tokens, 4)
