"""HoloV keeps the authors' tokens, in the authors' order."""

import re

import pytest
import torch
from torch import Tensor

from lofi.methods.select import Selection, VisualContext, select

from .vectors import StoredAttention, Vectors, check_every_array

GOLDEN = Vectors("vision", "holov")
CASES = [name for name in GOLDEN.names if name.endswith("_positions")]


def selections(case: str, order: str) -> list[Selection]:
    """The selections of all images of one stored case."""
    n, crops, k = map(int, re.findall(r"_n(\d+)_p(\d+)_k(\d+)_", case)[0])
    found = []
    for tokens, row in zip(GOLDEN.tensor(f"in_n{n}_features"), GOLDEN.tensor(f"in_n{n}_attn"), strict=True):
        attention = StoredAttention(cls_rows={-2: row})
        context = VisualContext(tokens, tokens, (1, n), image_key=1, attention=attention)
        found += select("holov", context, [k], seed=0, params={"crops": crops, "order": order})
    return found


def without_filling(case: str, places: Tensor, ours: Selection) -> list[int]:
    """The authors' places (k,) up to the first that is no token.

    They fill up with zeros where a run's budget is more than its tokens, which can only be where a run is kept whole:
    nowhere else is anything cut off here. Runs follow one another, so that a zero behind tokens shows.
    """
    n, crops = map(int, re.findall(r"_n(\d+)_p(\d+)_", case)[0])
    runs = torch.arange(n).tensor_split(crops)
    listed = places.tolist()
    if not any(bool(torch.isin(run, ours.kept).all()) for run in runs):
        return listed
    number = {token: i for i, run in enumerate(runs) for token in run.tolist()}
    for i in range(1, len(listed)):
        if listed[i] in listed[:i] or number.get(listed[i], -1) < number[listed[i - 1]]:
            return listed[:i]
    return listed


@pytest.mark.parametrize("case", CASES)
def test_positions_equal_the_authors_in_order(case: str) -> None:
    for selection, raster, places in zip(
        selections(case, "attention"), selections(case, "raster"), GOLDEN.tensor(case), strict=True
    ):
        expected = without_filling(case, places, selection)
        rows = selection.rows.tolist()
        if len(expected) == len(places):
            assert rows == expected
        else:  # lofi keeps other tokens as well, where the authors fill up
            assert set(expected) < set(rows)
        assert selection.kept.tolist() == sorted(rows)
        assert torch.equal(raster.kept, selection.kept)
        assert raster.embeds is None


@pytest.mark.parametrize("case", [name for name in GOLDEN.names if re.fullmatch(r"out_.*_features", name)])
def test_rows_equal_the_authors_in_order(case: str) -> None:
    places = GOLDEN.tensor(case.replace("features", "positions"))
    for selection, own, rows in zip(selections(case, "attention"), places, GOLDEN.tensor(case), strict=True):
        expected = without_filling(case, own, selection)
        assert selection.embeds is not None
        found = dict(zip(selection.rows.tolist(), selection.embeds, strict=True))
        assert torch.equal(torch.stack([found[place] for place in expected]), rows[: len(expected)])
        assert not rows[len(expected) :].any()


def test_every_array_is_read_or_listed() -> None:
    check_every_array(GOLDEN)
