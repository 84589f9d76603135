"""Average pooling gives the tokens that adaptive pooling of a square grid gives elsewhere."""

import re
from math import isqrt

import pytest
import torch

from lofi.methods.select import VisualContext, select

from .vectors import Vectors, check_every_array

GOLDEN = Vectors("vision", "avgpool")


@pytest.mark.parametrize("case", [name for name in GOLDEN.names if name.endswith("_avg")])
def test_means_equal_the_authors(case: str) -> None:
    n, side = map(int, re.findall(r"_n(\d+)_side(\d+)_", case)[0])
    grid = (isqrt(n), isqrt(n))
    for features, means in zip(GOLDEN.tensor(f"in_n{n}_features"), GOLDEN.tensor(case), strict=True):
        context = VisualContext(features, features, grid, image_key=1)
        [selection] = select("pool", context, [side * side], seed=0, params={})
        assert selection.embeds is not None
        torch.testing.assert_close(selection.embeds, means, rtol=1e-5, atol=1e-5)


def test_every_array_is_read_or_listed() -> None:
    check_every_array(GOLDEN)
