"""V2Drop where half precision would hide the change."""

import pytest
import torch

from lofi.methods.select import select_stage
from lofi.methods.v2drop import change
from tests.golden.decoding import view


def test_a_change_that_half_precision_overflows_still_ranks() -> None:
    before = torch.tensor([[-60000.0], [-60000.0], [0.0], [0.0]], dtype=torch.float16)
    after = torch.tensor([[50000.0], [60000.0], [1.0], [0.0]], dtype=torch.float16)
    seen = view(5, 0, 4, hidden=torch.cat([after, after[:1]]), previous=torch.cat([before, before[:1]]))
    assert change(seen).tolist() == [109984.0, 120000.0, 1.0, 0.0]
    assert select_stage("v2drop", seen, 1, seed=0, params={}).kept.tolist() == [1]


def test_nan_names_the_layer() -> None:
    seen = view(6, 1, 4, layer=17, hidden=torch.full((6, 2), torch.nan), previous=torch.zeros(6, 2))
    with pytest.raises(ValueError, match="layer 17"):
        select_stage("v2drop", seen, 2, seed=0, params={})
