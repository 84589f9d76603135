"""PruMerge, with its own and with a fixed count, and PruMerge+: the authors' tokens, order and merged rows."""

import re
from math import isqrt

import numpy as np
import pytest
import torch
from torch import Tensor

from lofi.methods.context import complement
from lofi.methods.prumerge import Scored, absorb, features, outliers, scored, single_head, with_stride
from lofi.methods.select import OWN, Selection, VisualContext, select

from .vectors import StoredAttention, Vectors, check_every_array

GOLDEN = Vectors("vision", "prumerge")
GRIDS = [int(n) for n in re.findall(r"in_n(\d+)_hidden", " ".join(GOLDEN.names))]
FIXED = [name for name in GOLDEN.names if re.fullmatch(r"out_n\d+_fixed\d+_features", name)]
TRAINING = [name for name in GOLDEN.names if re.fullmatch(r"out_n\d+_plus_fixed\d+_features", name)]


def images(n: int) -> list[VisualContext]:
    arrays = (GOLDEN.tensor(f"in_n{n}_{name}") for name in ("hidden", "q", "k"))
    return [
        VisualContext(
            hidden=hidden[1:],
            projected=hidden[1:],
            grid=(isqrt(n), isqrt(n)),
            image_key=1,
            attention=StoredAttention(all_queries={-1: queries}, all_keys={-1: keys}),
            extra=hidden[:1],
        )
        for hidden, queries, keys in zip(*arrays, strict=True)
    ]


def attention(n: int) -> Tensor:
    return torch.stack([single_head(image.attention) for image in images(n) if image.attention])


def check(found: Selection, stem: str, row: int, n: int) -> None:
    order, features = GOLDEN[stem + "idx_rank_order"][row], GOLDEN[stem + "features"][row]
    assert found.embeds is not None
    assert found.kept.tolist() == sorted(order.tolist())
    assert found.rows.tolist() == [*order.tolist(), n - 1]
    assert found.trace["count"] == int(GOLDEN[stem + "count_without_extra"]) == len(order)
    np.testing.assert_allclose(found.embeds.numpy(), features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", GRIDS)
def test_attention_equals_the_authors(n: int) -> None:
    np.testing.assert_allclose(attention(n).numpy(), GOLDEN[f"out_n{n}_cls_attn"], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("case", FIXED)
def test_fixed_counts_equal_the_authors(case: str) -> None:
    stem = case.removesuffix("features")
    n = int(re.findall(r"_n(\d+)_", case)[0])
    for row, image in enumerate(images(n)):
        [found] = select("prumerge_fixed", image, [GOLDEN[case].shape[1]], seed=0, params={})
        check(found, stem, row, n)
        assert found.trace["ratio"] == pytest.approx(float(GOLDEN[stem + "reduction_ratio"]), rel=1e-12)


@pytest.mark.parametrize("n", GRIDS)
def test_own_counts_equal_the_authors(n: int) -> None:
    """The authors count the outliers of a batch together; of one image that is the method as it is."""
    stem = f"out_n{n}_adaptive_"
    share = outliers(attention(n).flatten()) / attention(n).numel()
    assert share == pytest.approx(float(GOLDEN[stem + "reduction_ratio"]), rel=1e-12)
    count = int(n * share)
    for row, image in enumerate(images(n)):
        [shared] = select("prumerge_fixed", image, [count + 1], seed=0, params={})
        check(shared, stem, row, n)
        [own] = select("prumerge", image, [OWN], seed=0, params={})
        assert own.trace["ratio"] == outliers(attention(n)[row]) / n
        if len(images(n)) == 1:
            check(own, stem, row, n)


@pytest.mark.parametrize("n", [n for n in GRIDS if f"out_n{n}_plus_adaptive_features" in GOLDEN.names])
def test_plus_equals_the_authors(n: int) -> None:
    stem = f"out_n{n}_plus_adaptive_"
    [image] = images(n)
    [found] = select("prumerge_plus", image, [OWN], seed=0, params={})
    check(found, stem, 0, n)
    assert found.trace["ratio"] == pytest.approx(float(GOLDEN[stem + "reduction_ratio"]), rel=1e-12)
    count = outliers(attention(n)[0])
    order = GOLDEN[stem + "idx_rank_order"][0]
    assert with_stride(torch.from_numpy(order[:count]).long(), n).tolist() == order.tolist()


@pytest.mark.parametrize("case", TRAINING)
def test_merging_equals_the_authors_in_their_training_path(case: str) -> None:
    """That path selects some tokens twice, which no method of lofi does; scores and merging are the same.

    Each duplicate stands in the pool of neighbours for an unselected token, the lowest first.
    """
    stem = case.removesuffix("features")
    n = int(re.findall(r"_n(\d+)_", case)[0])
    for image, rows, places in zip(images(n), GOLDEN[case], GOLDEN.tensor(stem + "idx_rank_order").long(), strict=True):
        assert image.attention is not None
        found, m = scored(image), len(places)
        ranked = int(n * float(GOLDEN[stem + "reduction_ratio"]))
        assert (m, m) == (2 * ranked, int(GOLDEN[stem + "count_without_extra"]))
        assert found.ranking[:ranked].tolist() == places[:ranked].tolist()
        pool = torch.cat([places, complement(places, n)[m - len(places.unique()) :]])
        hidden, weights, keys = image.hidden[pool], found.attention[pool], image.attention.keys(-1)[1:][pool]
        pooled = Scored(weights, places, absorb(hidden, keys, weights))
        ours = features(pooled, hidden, torch.arange(m))
        np.testing.assert_allclose(ours.numpy(), rows, rtol=1e-4, atol=1e-5)


def test_every_array_is_read_or_listed() -> None:
    check_every_array(GOLDEN)
