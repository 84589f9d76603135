"""HiPrune keeps exactly the tokens that the authors' code keeps."""

import re

import pytest
import torch

from lofi.methods.context import best_first
from lofi.methods.hiprune import anchor_count, with_neighbours
from lofi.methods.select import VisualContext, select

from .vectors import StoredAttention, Vectors, check_every_array

GOLDEN = Vectors("vision", "hiprune")


@pytest.mark.parametrize("case", [name for name in GOLDEN.names if name.endswith("_mask")])
def test_indices_equal_the_authors(case: str) -> None:
    [(n, k, alpha)] = re.findall(r"_n(\d+)_k(\d+)_alpha([\d.]+)_", case)
    stem = case.removesuffix("mask")
    side = round(int(n) ** 0.5)
    tokens = torch.ones(int(n), 2)
    for middle, end, mask in zip(
        GOLDEN.tensor(f"in_n{n}_object_attn"), GOLDEN.tensor(f"in_n{n}_deep_attn"), GOLDEN[case], strict=True
    ):
        # (heads, queries, 1 + n): what every key receives, the CLS query included and the CLS column cut
        attention = StoredAttention(received_rows={8: middle.mean((0, 1))[1:], -2: end.mean((0, 1))[1:]})
        context = VisualContext(tokens, tokens, (side, side), image_key=1, attention=attention)
        [selection] = select("hiprune", context, [int(k)], seed=0, params={"alpha": float(alpha)})
        assert selection.kept.tolist() == mask.nonzero()[0].tolist()

        anchors = anchor_count(int(k), float(alpha))
        assert anchors == int(GOLDEN[stem + "num_anchor"])
        crosses = with_neighbours(best_first(attention.received(8))[:anchors], side, int(n))
        assert crosses.tolist() == GOLDEN[stem + "anchor_plus_buffer"].tolist()


def test_every_array_is_read_or_listed() -> None:
    check_every_array(GOLDEN)
