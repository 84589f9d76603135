"""VTW chooses exactly the depth that the authors' search chooses, and withdraws the same tokens."""

import re

import numpy as np
import pytest

from lofi.methods.registry import METHODS
from lofi.methods.select import select_stage
from lofi.methods.vtw import choose_depth, divergences

from .decoding import going_on, view
from .vectors import Vectors, check_every_array

GOLDEN = Vectors("llm", "vtw")
# The prompt that the authors' search supposes.
START, N, TEXT = 35, 576, 30


def test_divergences_equal_the_authors() -> None:
    found = divergences(GOLDEN.tensor("full_logits"), GOLDEN.tensor("withdrawn_logits"))
    np.testing.assert_allclose(found.numpy(), GOLDEN["kl"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", [name for name in GOLDEN.names if name.startswith("eta")])
def test_the_depth_equals_the_authors(case: str) -> None:
    eta = float(re.fullmatch(r"eta([\d.e-]+)_k", case)[1])
    depth = choose_depth(GOLDEN.tensor("full_logits"), GOLDEN.tensor("withdrawn_logits"), eta)
    assert depth == int(GOLDEN[case])


def test_withdrawal_leaves_the_authors_columns_and_positions() -> None:
    seen = view(START + N + TEXT, START, N, layer=15)
    selection = select_stage("vtw", seen, 0, seed=0, params={})
    kept, positions = going_on(seen, selection, METHODS["vtw"].positions)
    assert kept == GOLDEN["withdraw_keep"].tolist()
    assert positions == GOLDEN["withdraw_position_ids_keep_mode"].tolist()


def test_every_array_is_read_or_listed() -> None:
    check_every_array(GOLDEN)
