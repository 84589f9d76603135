"""DivPrune picks exactly the tokens that the authors' code picks, in the same order."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from lofi.methods.divprune import max_min_order
from lofi.methods.select import VisualContext, select

FOLDER = Path(os.environ.get("LOFI_GOLDEN", Path(__file__).parent / "data")) / "vision"
GOLDEN = np.load(FOLDER / "divprune.npz")
CASES = sorted(name for name in GOLDEN.files if name.endswith("_selection_order"))


def test_there_are_cases() -> None:
    assert CASES


@pytest.mark.parametrize("case", CASES)
def test_indices_equal_the_authors(case: str) -> None:
    grid = int(re.findall(r"_n(\d+)_", case)[0])
    side = round(grid**0.5)
    for features, order, kept in zip(
        GOLDEN[f"in_n{grid}_features"],
        GOLDEN[case],
        GOLDEN[case.replace("selection_order", "sorted")],
        strict=True,
    ):
        tokens = torch.from_numpy(features)
        assert max_min_order(tokens, len(order)).tolist() == order.tolist()
        context = VisualContext(tokens, tokens, (side, side), image_key=1)
        [selection] = select("divprune", context, [len(order)], seed=0, params={})
        assert selection.kept.tolist() == kept.tolist()
