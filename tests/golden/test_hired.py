"""HiRED votes, divides the budget and keeps tokens as the authors' code does."""

import re

import pytest
import torch

from lofi.methods.allotment import floors
from lofi.methods.context import Tiles, saliency, split_tiles
from lofi.methods.hired import split_budget, strips, vote_shares
from lofi.methods.select import VisualContext, select
from lofi.models.attention import ImageAttention, TappedAttention

from .vectors import StoredAttention, Vectors, check_every_array

GOLDEN = Vectors("vision", "hired")
SINGLE = [name for name in GOLDEN.names if re.fullmatch(r"out_single_.*_mask", name)]
TILED = [name for name in GOLDEN.names if re.fullmatch(r"out_(?!single).*_mask", name)]


def tiled(name: str) -> VisualContext:
    """The stored any-resolution image: encoder layer 0 votes, the feature layer ranks."""
    first = GOLDEN.tensor(f"in_{name}_top_cls_row_attn")[:, :, 1:].mean(1)
    last = GOLDEN.tensor(f"in_{name}_bottom_cls_row_attn")[:, :, 1:].mean(1)
    features = GOLDEN.tensor(f"in_{name}_features")
    rows, columns = GOLDEN[f"out_{name}_grid_shape"].tolist()
    count, m, _ = features.shape
    assert rows * columns == count - 1
    attention = StoredAttention(
        tiles=tuple(StoredAttention(cls_rows={0: a, -2: b}) for a, b in zip(first, last, strict=True))
    )
    flat = features.flatten(0, 1)
    side = round(m**0.5)
    return VisualContext(
        flat, flat, (side, side), image_key=1, attention=attention, tiles=Tiles(count, (rows, columns))
    )


@pytest.mark.parametrize("case", SINGLE)
def test_one_image_keeps_the_authors_tokens(case: str) -> None:
    heads = GOLDEN.tensor("in_single_cls_row_attn")[0]
    tokens = torch.ones(heads.shape[1] - 1, 2)
    attention = StoredAttention(cls_rows={-2: heads[:, 1:].mean(0)})
    context = VisualContext(tokens, tokens, (1, len(tokens)), image_key=1, attention=attention)
    expected = GOLDEN[case].nonzero()[0].tolist()
    [selection] = select("hired", context, [len(expected)], seed=0, params={})
    assert selection.kept.tolist() == expected


@pytest.mark.parametrize("case", TILED)
def test_tiles_get_the_authors_budgets_and_keep_their_tokens(case: str) -> None:
    [(name, rate, alpha)] = re.findall(r"out_([a-z]+)_rate([\d.]+)_alpha([\d.]+)_mask", case)
    stem = case.removesuffix("mask")
    context = tiled(name)
    parts = split_tiles(context)
    m, count = len(parts[0]), len(parts) - 1
    total = int(len(context) * float(rate))

    base, rest = split_budget(total, float(alpha), m, m * count)
    assert base == int(GOLDEN[stem + "full_budget"])
    shares = vote_shares(saliency(parts[0], 0), float(alpha), strips(m, count), count)
    budgets = floors(shares, rest, [m] * count)
    assert budgets == GOLDEN[stem + "sub_budgets"].tolist()

    # The authors lose what cutting to whole numbers leaves; lofi keeps exactly the budget, theirs among it.
    [selection] = select("hired", context, [total], seed=0, params={"alpha": float(alpha), "regions": "strips"})
    authors = set(GOLDEN[case].reshape(-1).nonzero()[0].tolist())
    ours = set(selection.kept.tolist())
    assert authors <= ours
    lost = total - base - sum(budgets)
    assert len(ours) - len(authors) == lost
    extra = torch.bincount(torch.tensor(sorted(ours - authors), dtype=torch.long) // m, minlength=count + 1)[1:]
    assert extra.nonzero().flatten().tolist() == sorted(shares.argsort(descending=True, stable=True)[:lost].tolist())


def test_attention_made_from_queries_and_keys_is_the_authors() -> None:
    expected = GOLDEN.tensor("out_hook_attn")[0]
    queries, keys = GOLDEN.tensor("in_hook_q"), GOLDEN.tensor("in_hook_k")
    heads, t, _ = expected.shape
    chunks = {0: [tuple(side[0].unflatten(1, (heads, -1)).transpose(0, 1) for side in (queries, keys))]}
    attention, every_column = (
        ImageAttention(TappedAttention(chunks, n_extra, 1, heads), (torch.arange(t - n_extra)[:, None],))
        for n_extra in (1, 0)
    )
    torch.testing.assert_close(attention.cls(0), expected[:, 0, 1:].mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(attention.received(0), expected[:, :, 1:].mean((0, 1)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(every_column.received(0), expected.mean((0, 1)), rtol=1e-5, atol=1e-6)


def test_every_array_is_read_or_listed() -> None:
    packed = "rows left after padding was cut off what was chosen: lofi chooses among what the cut leaves"
    size = "the picture's size, from which the model's own preprocessing chose the layout: no reducer sees it"
    left_out = {name: packed for name in GOLDEN.names if name.endswith("_packed_features")}
    left_out |= {name: size for name in GOLDEN.names if name.endswith("_image_size_hw")}
    check_every_array(GOLDEN, left_out)
