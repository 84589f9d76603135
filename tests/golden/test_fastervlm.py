"""FasterVLM keeps exactly the tokens that the authors' code keeps."""

import re

import numpy as np
import pytest

from lofi.methods.context import best_first
from lofi.methods.select import VisualContext, select

from .vectors import StoredAttention, Vectors, check_every_array

GOLDEN = Vectors("vision", "fastervlm")


@pytest.mark.parametrize("case", [name for name in GOLDEN.names if name.endswith("_mask")])
def test_indices_equal_the_authors(case: str) -> None:
    grid, k = map(int, re.findall(r"_n(\d+)_k(\d+)_", case)[0])
    side = round(grid**0.5)
    stem = case.removesuffix("mask")
    for features, heads, mask, order, rows in zip(
        GOLDEN.tensor(f"in_n{grid}_features"),
        GOLDEN.tensor(f"in_n{grid}_cls_attn"),
        GOLDEN[case],
        GOLDEN[stem + "topk_rank_order"],
        GOLDEN[stem + "kept_features"],
        strict=True,
    ):
        attention = StoredAttention(cls_rows={-2: heads.mean(0)})
        context = VisualContext(features, features, (side, side), image_key=1, attention=attention)
        [selection] = select("fastervlm", context, [k], seed=0, params={})
        assert selection.kept.tolist() == mask.nonzero()[0].tolist()
        assert best_first(attention.cls(-2))[:k].tolist() == order.tolist()
        assert np.array_equal(features[selection.kept].numpy(), rows)


def test_every_array_is_read_or_listed() -> None:
    check_every_array(GOLDEN)
