"""FasterVLM keeps exactly the tokens that the authors' code keeps."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lofi.methods.context import best_first
from lofi.methods.select import VisualContext, select

FOLDER = Path(os.environ.get("LOFI_GOLDEN", Path(__file__).parent / "data")) / "vision"
GOLDEN = np.load(FOLDER / "fastervlm.npz")
CASES = sorted(name for name in GOLDEN.files if name.endswith("_mask"))


@dataclass
class StoredAttention:
    """CLS attention (heads, n) of layer -2, the only one that may be asked for."""

    heads: Tensor

    def cls(self, layer: int) -> Tensor:
        assert layer == -2
        return self.heads.mean(0)


def test_there_are_cases() -> None:
    assert CASES


@pytest.mark.parametrize("case", CASES)
def test_indices_equal_the_authors(case: str) -> None:
    grid, k = map(int, re.findall(r"_n(\d+)_k(\d+)_", case)[0])
    side = round(grid**0.5)
    stem = case.removesuffix("mask")
    for features, heads, mask, order, rows in zip(
        GOLDEN[f"in_n{grid}_features"],
        GOLDEN[f"in_n{grid}_cls_attn"],
        GOLDEN[case],
        GOLDEN[stem + "topk_rank_order"],
        GOLDEN[stem + "kept_features"],
        strict=True,
    ):
        tokens, attention = torch.from_numpy(features), StoredAttention(torch.from_numpy(heads))
        context = VisualContext(tokens, tokens, (side, side), image_key=1, attention=attention)  # type: ignore[arg-type]
        [selection] = select("fastervlm", context, [k], seed=0, params={})
        assert selection.kept.tolist() == mask.nonzero()[0].tolist()
        assert best_first(attention.cls(-2))[:k].tolist() == order.tolist()
        assert np.array_equal(tokens[selection.kept].numpy(), rows)
