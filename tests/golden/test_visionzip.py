"""VisionZip keeps, merges and orders rows exactly as the authors' code does."""

import re

import pytest
import torch
from torch import Tensor, nn

from lofi.methods.context import Tiles, best_first, complement
from lofi.methods.select import VisualContext, select
from lofi.methods.similarity import unit_rows
from lofi.methods.tome import head_mean
from lofi.methods.visionzip import contextual_count, nearest_target, targets_among
from lofi.models.attention import ImageAttention, TappedAttention
from lofi.models.blocks import ClipBlocks

from .vectors import StoredAttention, Vectors, check_every_array

GOLDEN = Vectors("vision", "visionzip")
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.mark.parametrize("case", [name for name in GOLDEN.names if name.endswith("_all_indices") and "_dom" in name])
def test_rows_and_indices_equal_the_authors(case: str) -> None:
    grid, dominant, contextual = map(int, re.findall(r"_n(\d+)_dom(\d+)_ctx(\d+)_", case)[0])
    side = round(grid**0.5)
    stem = case.removesuffix("all_indices")
    k = dominant + contextual
    assert contextual_count(k) == contextual
    for hidden, metric, heads, indices, centres, assignment, rows in zip(
        GOLDEN.tensor(f"in_n{grid}_hidden"),
        GOLDEN.tensor(f"in_n{grid}_metric"),
        GOLDEN.tensor(f"in_n{grid}_cls_row_attn"),
        GOLDEN.tensor(case),
        GOLDEN.tensor(stem + "target_positions"),
        GOLDEN.tensor(stem + "assignment"),
        GOLDEN.tensor(stem + "features"),
        strict=True,
    ):
        attention = StoredAttention(cls_rows={-2: heads.mean(0)[1:]}, all_keys={-2: metric})
        context = VisualContext(hidden[1:], hidden[1:], (side, side), 1, attention, extra=hidden[:1])
        [selection] = select("visionzip", context, [k], seed=0, params={"cls": "auto"})
        assert indices[0] == 0  # CLS
        order = indices[1:] - 1
        front = order.sort().values.long()
        targets = centres.long() - 1
        assert best_first(attention.cls(-2))[: len(order)].tolist() == order.tolist()
        assert selection.kept.tolist() == sorted([*front.tolist(), *targets.tolist()])
        assert selection.rows.tolist() == [0, *front.tolist(), *targets.tolist()]
        torch.testing.assert_close(selection.embeds, rows, **CLOSE)
        rest = complement(front, grid)
        assert torch.equal(targets_among(rest, contextual), targets)
        others = complement(torch.cat([front, targets]), grid)
        assert torch.equal(nearest_target(unit_rows(metric[1:]), others, targets), assignment.long())


class GoldenLayer(nn.Module):
    """An encoder layer that is nothing but the stored attention."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.layer_norm1 = self.layer_norm2 = self.mlp = nn.Identity()
        self.self_attn = nn.Module()
        width = GOLDEN["in_attnfwd_q_weight"].shape[0]
        self.self_attn.num_heads, self.self_attn.scale = heads, (width // heads) ** -0.5
        for letter, name in (("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj"), ("o", "out_proj")):
            linear = nn.Linear(width, width)
            linear.weight.data = GOLDEN.tensor(f"in_attnfwd_{letter}_weight")
            linear.bias.data = GOLDEN.tensor(f"in_attnfwd_{letter}_bias")
            setattr(self.self_attn, name, linear)


def test_metric_and_attention_output_equal_the_authors() -> None:
    metrics = GOLDEN.tensor("out_attnfwd_metric")
    heads = GOLDEN["in_attnfwd_k_weight"].shape[0] // metrics.shape[-1]
    layer = GoldenLayer(heads)
    for hidden, out, metric in zip(
        GOLDEN.tensor("in_attnfwd_hidden"), GOLDEN.tensor("out_attnfwd_out"), metrics, strict=True
    ):
        seen: list[tuple[Tensor, Tensor]] = []

        def see(_block: int, keys: Tensor, x: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
            seen.append((keys, x))  # noqa: B023
            return x, sizes

        ClipBlocks([hidden], [layer], -1).run(see)
        [(keys, x)] = seen
        torch.testing.assert_close(x - hidden, out, **CLOSE)
        torch.testing.assert_close(head_mean(keys, heads), metric, **CLOSE)


def test_attention_made_again_from_queries_and_keys_equals_the_authors() -> None:
    hidden, maps = GOLDEN.tensor("in_attnfwd_hidden"), GOLDEN.tensor("out_attnfwd_attn")
    heads = maps.shape[1]
    attention = GoldenLayer(heads).self_attn
    with torch.no_grad():
        sides = [
            part(hidden).unflatten(2, (heads, -1)).transpose(1, 2) for part in (attention.q_proj, attention.k_proj)
        ]
    tapped, with_cls = (TappedAttention({0: list(zip(*sides, strict=True))}, n_extra, 1, heads) for n_extra in (1, 0))
    n = hidden.shape[1]
    for image, expected in enumerate(maps):
        found = ImageAttention(tapped, (torch.arange(n - 1)[:, None] + image * (n - 1),))
        received = ImageAttention(with_cls, (torch.arange(n)[:, None] + image * n,)).received(-1)
        torch.testing.assert_close(found.cls(-1), expected[:, 0, 1:].mean(0), **CLOSE)
        torch.testing.assert_close(found.received(-1), expected[:, :, 1:].mean((0, 1)), **CLOSE)
        torch.testing.assert_close(received, expected.mean((0, 1)), **CLOSE)


SIDE = 24  # of every tile in the authors' code


def tile_of(rows: Tensor, ranking: Tensor, contextual: int) -> tuple[Tensor, Tensor, StoredAttention]:
    """CLS row, tokens and attention of a tile that is to give these rows: CLS, dominant, contextual.

    ranking: the dominant tokens by attention. Every contextual row is its target, as all that joins it is zero.
    """
    n = SIDE * SIDE
    dominant = ranking.sort().values
    hidden = torch.zeros(n, rows.shape[1])
    hidden[dominant] = rows[1 : 1 + len(dominant)]
    hidden[targets_among(complement(dominant, n), contextual)] = rows[1 + len(dominant) :]
    scores = torch.zeros(n).index_put((ranking,), torch.arange(len(ranking), 0, -1.0))
    return rows[:1], hidden, StoredAttention(cls_rows={-2: scores}, all_keys={-2: torch.ones(1 + n, 2)})


def test_tiles_in_the_authors_order(monkeypatch: pytest.MonkeyPatch) -> None:
    features, indices = GOLDEN.tensor("in_anyres_features"), GOLDEN.tensor("in_anyres_all_indices").long()
    packed = GOLDEN.tensor("out_anyres_packed")
    count, rows, _ = features.shape
    across, contextual = round(count**0.5), rows - indices.shape[1]
    monkeypatch.setattr("lofi.methods.visionzip.CONTEXTUAL", contextual)
    monkeypatch.setattr("lofi.methods.visionzip.OF", rows)
    tiles = [tile_of(own, places - 1, contextual) for own, places in zip(features, indices[:, 1:], strict=True)]
    base = tile_of(-features[0], indices[0, 1:] - 1, contextual)
    extra, hidden, attention = zip(base, *tiles, strict=True)
    context = VisualContext(
        torch.cat(hidden),
        torch.cat(hidden),
        (SIDE, SIDE),
        1,
        StoredAttention(tiles=attention),
        extra=torch.cat(extra),
        tiles=Tiles(1 + count, (across, across)),
    )
    [selection] = select("visionzip", context, [rows * (1 + count)], seed=0, params={"cls": "keep"})
    assert torch.equal(selection.embeds, torch.cat([-features[0], packed]))
    assert selection.trace == {"tiles": 1 + count}


def test_every_array_is_read_or_listed() -> None:
    check_every_array(GOLDEN)
