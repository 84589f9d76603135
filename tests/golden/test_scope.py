"""SCOPE picks exactly the tokens that the authors' code picks, in the same order."""

import re
from math import isqrt

import pytest

from lofi.methods.cover import cover_order
from lofi.methods.select import VisualContext, select
from lofi.methods.similarity import cosines

from .vectors import StoredAttention, Vectors, check_every_array

GOLDEN = Vectors("vision", "scope")


@pytest.mark.parametrize("n", [int(n) for n in re.findall(r"in_n(\d+)_features", " ".join(GOLDEN.names))])
def test_indices_equal_the_authors(n: int) -> None:
    ks = [int(k) for k in re.findall(rf"out_n{n}_k(\d+)_sorted", " ".join(GOLDEN.names))]
    assert ks
    for row, (features, weights) in enumerate(
        zip(GOLDEN.tensor(f"in_n{n}_features"), GOLDEN.tensor(f"in_n{n}_cls_attn_sum"), strict=True)
    ):
        attention = StoredAttention(cls_rows={-2: weights})
        context = VisualContext(features, features, (isqrt(n), isqrt(n)), image_key=1, attention=attention)
        order = cover_order(cosines(features), weights, max(ks))
        for k, selection in zip(ks, select("scope", context, ks, seed=0, params={}), strict=True):
            assert order[:k].tolist() == GOLDEN[f"out_n{n}_k{k}_selection_order"][row].tolist()
            assert selection.kept.tolist() == GOLDEN[f"out_n{n}_k{k}_sorted"][row].tolist()


def test_every_array_is_read_or_listed() -> None:
    check_every_array(GOLDEN)
