"""VisPruner keeps the authors' tokens, and its list of diverse tokens ends in the authors' order."""

import re
from math import isqrt

import pytest
import torch

from lofi.methods.context import best_first
from lofi.methods.select import VisualContext, select
from lofi.methods.similarity import cosines
from lofi.methods.vispruner import diverse

from .vectors import StoredAttention, Vectors, check_every_array

GOLDEN = Vectors("vision", "vispruner")
THIRD = {33: 1 / 3}  # the one share whose name is rounded


@pytest.mark.parametrize("case", [name for name in GOLDEN.names if name.endswith("_mask")])
def test_indices_equal_the_authors(case: str) -> None:
    n, k, percent = map(int, re.findall(r"_n(\d+)_k(\d+)_r(\d+)_", case)[0])
    share = THIRD.get(percent, percent / 100)
    stem = case.removesuffix("mask")
    for row, (features, heads) in enumerate(
        zip(GOLDEN.tensor(f"in_n{n}_features"), GOLDEN.tensor(f"in_n{n}_cls_attn"), strict=True)
    ):
        attention = StoredAttention(cls_rows={-2: heads.mean(0)})
        context = VisualContext(features, features, (isqrt(n), isqrt(n)), image_key=1, attention=attention)
        [selection] = select("vispruner", context, [k], seed=0, params={"important": share})
        assert selection.kept.tolist() == GOLDEN[case][row].nonzero()[0].tolist()

        ranking = best_first(attention.cls(-2))
        attended = GOLDEN[stem + "important_rank_order"][row].tolist()
        assert ranking[: len(attended)].tolist() == attended
        if stem + "diverse_list_order" in GOLDEN.names:  # not stored where all tokens are chosen by attention
            others = GOLDEN[stem + "diverse_list_order"][row].tolist()
            found, rounds = diverse(ranking[len(attended) :], cosines(features, dtype=torch.float64), len(others))
            assert found.tolist() == others
            assert selection.trace["rounds"] == rounds
        else:
            assert len(attended) == k


def test_every_array_is_read_or_listed() -> None:
    check_every_array(GOLDEN)
