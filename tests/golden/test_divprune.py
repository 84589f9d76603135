"""DivPrune picks exactly the tokens that the authors' code picks, in the same order."""

import re
from math import isqrt

import pytest

from lofi.methods.divprune import max_min_order
from lofi.methods.select import VisualContext, select

from .vectors import Vectors, check_every_array

GOLDEN = Vectors("vision", "divprune")


@pytest.mark.parametrize("case", [name for name in GOLDEN.names if name.endswith("_selection_order")])
def test_indices_equal_the_authors(case: str) -> None:
    n = int(re.findall(r"_n(\d+)_", case)[0])
    stem = case.removesuffix("selection_order")
    k = round(float(GOLDEN[stem + "ratio"]) * n)
    for tokens, order, kept in zip(
        GOLDEN.tensor(f"in_n{n}_features"), GOLDEN[case], GOLDEN[stem + "sorted"], strict=True
    ):
        assert max_min_order(tokens, k).tolist() == order.tolist()
        context = VisualContext(tokens, tokens, (isqrt(n), isqrt(n)), image_key=1)
        [selection] = select("divprune", context, [k], seed=0, params={})
        assert selection.kept.tolist() == kept.tolist()


def test_every_array_is_read_or_listed() -> None:
    check_every_array(GOLDEN)
