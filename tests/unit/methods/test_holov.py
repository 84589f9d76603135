"""HoloV's budgets where a run is full, and its score by definition."""

import pytest
import torch
from torch import Tensor

from lofi.methods.holov import run_score, spreads
from lofi.methods.registry import check_params
from lofi.methods.select import Selection, VisualContext, select
from tests.golden.vectors import StoredAttention


def run(attention: Tensor, k: int, tokens: Tensor | None = None, **params: object) -> Selection:
    n = len(attention)
    tokens = torch.eye(n) if tokens is None else tokens
    view = StoredAttention(cls_rows={-2: attention})
    context = VisualContext(tokens, tokens, (1, n), image_key=1, attention=view)
    [selection] = select("holov", context, [k], seed=0, params=check_params("holov", params))
    return selection


def test_spread_is_its_definition() -> None:
    tokens = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    unit = torch.nn.functional.normalize(tokens.double(), dim=1)
    for i, found in enumerate(spreads(tokens).tolist()):
        row = [0.0 if i == j else float(unit[i] @ unit[j]) for j in range(5)]
        mean = sum(row) / 4
        assert found == pytest.approx(sum((value - mean) ** 2 for value in row) / 4, rel=1e-4)


def test_a_score_is_109_percent_of_the_mean_attention_whatever_the_spread_or_100_where_there_is_none() -> None:
    generator = torch.Generator().manual_seed(0)
    attention = torch.rand(6, generator=generator)
    for width in (2, 5, 50):
        score = run_score(torch.randn(6, width, generator=generator), attention)
        assert float(score) == pytest.approx(1090 * float(attention.mean()), rel=1e-4)
    assert float(run_score(torch.zeros(6, 4), attention)) == pytest.approx(1000 * float(attention.mean()), rel=1e-5)
    assert float(run_score(torch.ones(1, 4), attention[:1])) == float(attention[0])


def test_rows_stand_run_by_run_and_a_whole_run_in_raster_order() -> None:
    attention = torch.tensor([0.1, 0.9, 0.8, 0.2, 0.01, 0.02, 0.03, 0.04])
    selection = run(attention, 6, crops=2)
    assert selection.rows.tolist() == [0, 1, 2, 3, 7, 6]  # a surplus of the full first run, in the second
    assert selection.kept.tolist() == [0, 1, 2, 3, 6, 7]
    assert selection.embeds is not None
    assert torch.equal(selection.embeds, torch.eye(8)[selection.rows])
    raster = run(attention, 6, crops=2, order="raster")
    assert raster.embeds is None
    assert raster.kept.tolist() == selection.kept.tolist()


def test_more_crops_than_tokens() -> None:
    assert run(torch.tensor([0.3, 0.9, 0.1, 0.5, 0.2]), 2, crops=16).kept.tolist() == [1, 3]


def test_nan_is_an_error() -> None:
    tokens = torch.eye(8)
    tokens[3] = torch.inf
    for crops in (2, 16):
        with pytest.raises(ValueError, match="NaN"):
            run(torch.ones(8), 3, tokens, crops=crops)
    with pytest.raises(ValueError, match="layer -2"):
        run(torch.full((8,), torch.nan), 3)
