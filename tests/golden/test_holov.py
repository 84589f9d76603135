"""HoloV keeps the authors' tokens, in the authors' order."""

import re

import pytest
import torch

from lofi.methods.select import Selection, VisualContext, select

from .vectors import StoredAttention, Vectors, check_every_array

GOLDEN = Vectors("vision", "holov")
CASES = [name for name in GOLDEN.names if name.endswith("_positions")]


def runs(case: str, order: str) -> list[Selection]:
    """The selections of all images of one stored case."""
    n, crops, k = map(int, re.findall(r"_n(\d+)_p(\d+)_k(\d+)_", case)[0])
    selections = []
    for tokens, row in zip(GOLDEN.tensor(f"in_n{n}_features"), GOLDEN.tensor(f"in_n{n}_attn"), strict=True):
        attention = StoredAttention(cls_rows={-2: row})
        context = VisualContext(tokens, tokens, (1, n), image_key=1, attention=attention)
        selections += select("holov", context, [k], seed=0, params={"crops": crops, "order": order})
    return selections


@pytest.mark.parametrize("case", CASES)
def test_positions_equal_the_authors_in_order(case: str) -> None:
    for selection, raster, positions in zip(runs(case, "attention"), runs(case, "raster"), GOLDEN[case], strict=True):
        assert selection.rows.tolist() == positions.tolist()
        assert selection.kept.tolist() == sorted(positions.tolist())
        assert torch.equal(raster.kept, selection.kept)
        assert raster.embeds is None


@pytest.mark.parametrize("case", [name for name in GOLDEN.names if re.fullmatch(r"out_.*_features", name)])
def test_rows_equal_the_authors_in_order(case: str) -> None:
    for selection, rows in zip(runs(case, "attention"), GOLDEN.tensor(case), strict=True):
        assert selection.embeds is not None
        assert torch.equal(selection.embeds, rows)


def test_every_array_is_read_or_listed() -> None:
    check_every_array(GOLDEN)
