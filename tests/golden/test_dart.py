"""DART keeps exactly the tokens that the authors' code keeps, wherever their count is reached."""

import pytest
import torch

from lofi.methods.dart import longest, visits
from lofi.methods.decoder import DecoderView
from lofi.methods.registry import check_params
from lofi.methods.select import select_stage

from .decoding import StoredDecoderAttention, view
from .vectors import Vectors, check_every_array

GOLDEN = Vectors("llm", "dart")


def stage_view() -> DecoderView:
    normed, keys = GOLDEN.tensor("normed_hidden"), GOLDEN.tensor("key_states")
    start, n = int(GOLDEN["image_start"]), int(GOLDEN["n_image"])
    attention = StoredDecoderAttention({1: (torch.empty(0), keys)})
    return view(len(normed), start, n, layer=2, normed=normed, attention=attention)


def test_pivots_and_their_order_equal_the_authors() -> None:
    seen = stage_view()
    assert len(seen.text) == int(GOLDEN["n_text"])
    lengths = seen.attention.keys(1).abs().sum((0, 2))
    visual = longest(lengths, seen.visual, int(GOLDEN["pivot_image"]))
    text = longest(lengths, seen.text, int(GOLDEN["pivot_text"]))
    assert visual.tolist() == GOLDEN["pivot_image_idx"].tolist()
    assert text.tolist() == GOLDEN["pivot_text_idx"].tolist()
    assert visits(visual, text).tolist() == GOLDEN["pivot_visit_order"].tolist()


@pytest.mark.parametrize("case", [name for name in GOLDEN.names if name.endswith("_kept")])
def test_indices_equal_the_authors(case: str) -> None:
    seen, kept = stage_view(), GOLDEN[case].tolist()
    selection = select_stage("dart", seen, len(kept), seed=0, params=check_params("dart", {}))
    assert seen.visual[selection.kept].tolist() == kept


def test_every_array_is_read_or_listed() -> None:
    check_every_array(GOLDEN)
