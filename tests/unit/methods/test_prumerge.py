"""PruMerge beyond the authors' outputs: no CLS token, no outliers, nothing left over, and the edges of the counts."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lofi.methods.prumerge import NEIGHBOURS, outliers
from lofi.methods.select import OWN, Selection, VisualContext, select
from tests.golden.vectors import StoredAttention


def image(logits: Tensor, *, n_extra: int = 1, width: int = 5) -> VisualContext:
    """An image whose CLS attention is the softmax of the logits (n_extra + n,)."""
    generator = torch.Generator().manual_seed(0)
    keys = torch.cat([logits[:, None], torch.rand(len(logits), 3, generator=generator)], dim=1)
    queries = torch.tensor([[2.0, 0.0, 0.0, 0.0]]).repeat(len(keys), 1)  # 2: the square root of the width
    hidden = torch.randn(len(logits) - n_extra, width, generator=generator)
    attention = StoredAttention(n_extra=n_extra, all_keys={-1: keys}, all_queries={-1: queries})
    return VisualContext(hidden, hidden, (1, len(hidden)), image_key=1, attention=attention)


def one(name: str, context: VisualContext, k: int = OWN) -> Selection:
    [selection] = select(name, context, [k], seed=0, params={})
    return selection


def peaks(n: int, *places: int) -> Tensor:
    """Logits of a CLS token and n patches, of which some stand out."""
    logits = torch.zeros(n + 1)
    logits[[place + 1 for place in places]] = torch.tensor([3.0 - 0.1 * i for i in range(len(places))])
    return logits


def test_rows_are_sums_by_attention() -> None:
    """With so few tokens all others are neighbours, so that each row can be written down."""
    logits = torch.linspace(-1, 1, NEIGHBOURS)
    context = image(logits)
    attention, hidden = logits.softmax(0)[1:], context.hidden
    n = len(hidden)
    selection = one("prumerge_fixed", context, 4)
    assert selection.rows.tolist() == [n - 1, n - 2, n - 3, n - 1]
    assert selection.embeds is not None
    for row, place in zip(selection.embeds, (n - 1, n - 2, n - 3), strict=False):
        others = torch.arange(n) != place
        torch.testing.assert_close(row, hidden[place] + attention[others] @ hidden[others])
    torch.testing.assert_close(selection.embeds[-1], attention[: n - 3] @ hidden[: n - 3])


def test_one_token_is_the_extra_token() -> None:
    context = image(torch.linspace(-1, 1, 11))
    selection = one("prumerge_fixed", context, 1)
    assert selection.kept.tolist() == []
    assert selection.rows.tolist() == [9]
    assert selection.embeds is not None
    torch.testing.assert_close(selection.embeds[0], torch.linspace(-1, 1, 11).softmax(0)[1:] @ context.hidden)


def test_rows_are_merged_before_the_projector() -> None:
    context = image(torch.linspace(-1, 1, 11))
    projected = replace(context, projected=context.hidden.square(), project=torch.square)
    before, after = one("prumerge_fixed", context, 4).embeds, one("prumerge_fixed", projected, 4).embeds
    assert before is not None
    assert after is not None
    torch.testing.assert_close(after, before.square())


def test_without_a_cls_token_the_attention_is_the_mean_over_queries() -> None:
    generator = torch.Generator().manual_seed(1)
    queries, keys = torch.randn(2, 9, 4, generator=generator)
    hidden = torch.randn(9, 3, generator=generator)
    attention = StoredAttention(n_extra=0, all_keys={-1: keys}, all_queries={-1: queries})
    context = VisualContext(hidden, hidden, (3, 3), image_key=1, attention=attention)
    received = torch.stack([(query @ keys.T / 2).softmax(0) for query in queries]).mean(0)
    order = received.argsort(descending=True)
    assert one("prumerge_fixed", context, 6).rows.tolist() == [*order[:5].tolist(), 8]


@pytest.mark.parametrize("name", ["prumerge", "prumerge_plus"])
def test_without_outliers_the_extra_token_stands_alone(name: str) -> None:
    selection = one(name, image(torch.zeros(21)))
    assert selection.kept.tolist() == []
    assert selection.rows.tolist() == [19]
    assert selection.trace == {"ratio": 0.0, "count": 0.0}


def test_the_own_count_is_the_count_of_outliers_at_any_n() -> None:
    """49 * (1 / 49) is below 1: the count must not be lost on its way through the share."""
    selection = one("prumerge", image(peaks(49, 20)))
    assert selection.kept.tolist() == [20]
    assert selection.trace == {"ratio": 1 / 49, "count": 1.0}


def test_plus_samples_between_the_outliers() -> None:
    selection = one("prumerge_plus", image(peaks(40, 6, 3)))  # 2 of 40: steps of 20, a third of it is 6
    assert selection.rows.tolist() == [6, 3, 0, 12, 18, 24, 30, 36, 39]
    assert selection.kept.tolist() == [0, 3, 6, 12, 18, 24, 30, 36]
    assert selection.trace == {"ratio": 0.05, "count": 8.0}


def test_plus_gives_no_extra_token_where_nothing_is_left() -> None:
    selection = one("prumerge_plus", image(peaks(8, 7, 6)))
    assert selection.rows.tolist() == [7, 6, 0, 1, 2, 3, 4, 5]
    assert selection.count == 8


@pytest.mark.parametrize("n", range(2, 70))
def test_at_most_a_quarter_are_outliers(n: int) -> None:
    """So the step of PruMerge+ is at least 4, and a third of it at least 1."""
    for high in range(n):
        count = outliers(torch.cat([torch.zeros(n - high), torch.ones(high)]))
        assert count <= n / 4
        assert count == 0 or int(int(n / count) / 3) >= 1


def test_no_attention_and_no_numbers_are_errors() -> None:
    context = image(torch.zeros(8))
    with pytest.raises(ValueError, match="no attention"):
        one("prumerge_fixed", replace(context, attention=None), 3)
    with pytest.raises(ValueError, match="NaN"):
        one("prumerge_fixed", replace(context, hidden=context.hidden.log()), 3)
    with pytest.raises(ValueError, match="NaN"):
        one("prumerge", image(torch.tensor([0.0, torch.nan, 1.0, 2.0])))
