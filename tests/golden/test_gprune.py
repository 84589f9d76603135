"""G-Prune keeps exactly the tokens that the published code keeps, ranked in the same order."""

import re
from math import isqrt

import pytest

from lofi.methods.context import best_first
from lofi.methods.gprune import gathered
from lofi.methods.select import VisualContext, select

from .vectors import Vectors, check_every_array

GOLDEN = Vectors("vision", "gprune")


@pytest.mark.parametrize("case", [name for name in GOLDEN.names if name.endswith("_rank_order")])
def test_indices_equal_the_published_code(case: str) -> None:
    n = int(re.findall(r"_n(\d+)_", case)[0])
    for tokens, order in zip(GOLDEN.tensor(f"in_n{n}_features"), GOLDEN[case], strict=True):
        k = len(order)
        assert best_first(gathered(tokens))[:k].tolist() == order.tolist()
        context = VisualContext(tokens, tokens, (isqrt(n), isqrt(n)), image_key=1)
        [selection] = select("gprune", context, [k], seed=0, params={})
        assert selection.kept.tolist() == sorted(order.tolist())


def test_every_array_is_read_or_listed() -> None:
    check_every_array(GOLDEN)
