"""VTW's search by hand, and what it refuses."""

import math

import pytest
import torch

from lofi.errors import UserError
from lofi.methods.select import select_stage
from lofi.methods.vtw import choose_depth, divergences
from tests.golden.decoding import view

# Two samples; the first candidate shifts probability, the second differs by a constant alone, which is no change.
FULL = torch.tensor([[0.0, 0.0], [0.0, math.log(3.0)]])
WITHDRAWN = torch.stack(
    [torch.tensor([[0.0, math.log(3.0)], [5.0, 5.0]]), torch.tensor([[0.0, 0.0], [7.0, 7.0 + math.log(3.0)]])]
)


def test_the_divergence_is_that_of_the_withdrawn_from_the_full_run() -> None:
    forth = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)  # (1/4, 3/4) from (1/2, 1/2)
    back = 0.5 * math.log(2.0) + 0.5 * math.log(2.0 / 3.0)  # (1/2, 1/2) from (1/4, 3/4)
    expected = torch.tensor([[forth, 0.0], [back, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(divergences(FULL, WITHDRAWN), expected, rtol=1e-6, atol=1e-7)


def test_the_first_candidate_whose_mean_is_low_enough() -> None:
    mean = float(divergences(FULL, WITHDRAWN)[:, 0].mean())
    assert choose_depth(FULL, WITHDRAWN, mean) == 5
    assert choose_depth(FULL, WITHDRAWN, 0.9 * mean) == 6
    assert choose_depth(FULL, WITHDRAWN, 0.9 * mean, first=2) == 3


def test_no_candidate_is_an_error_with_the_best_mean() -> None:
    with pytest.raises(UserError, match=r"no layer from 5 to 5 .* eta 0.001; the smallest mean divergence is 0.137"):
        choose_depth(FULL, WITHDRAWN[:, :1], 0.001)


def test_nan_chooses_no_depth() -> None:
    with pytest.raises(ValueError, match="NaN"):
        choose_depth(FULL, WITHDRAWN * math.nan, 1.0)


def test_a_part_of_the_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="all visual tokens at once"):
        select_stage("vtw", view(9, 2, 5, layer=15), 3, seed=0, params={})
