"""The methods that rank by the last prompt token's attention: which layer they read, and with which positions."""

import pytest
import torch

from lofi.methods.decoder import DecoderView
from lofi.methods.registry import check_params
from lofi.methods.select import select_stage
from tests.golden.decoding import StoredDecoderAttention, attention_of_weights, view

LAYER, V = 8, 4
ROWS = {  # one best token for each attention that could be read, another one of the text before and after it
    (LAYER - 1, True): [0.1, 0.5, 0.1, 0.1, 0.1, 0.1],
    (LAYER, True): [0.1, 0.1, 0.5, 0.1, 0.1, 0.1],
    (LAYER, False): [0.1, 0.1, 0.1, 0.5, 0.1, 0.1],
}


def seen() -> DecoderView:
    merged = StoredDecoderAttention()
    for (layer, rotary), row in ROWS.items():
        stored = attention_of_weights(layer, torch.tensor([row]), rotary=rotary)
        merged.rotated |= stored.rotated
        merged.plain |= stored.plain
        merged.scales |= stored.scales
    return view(V + 2, 1, V, layer=LAYER, attention=merged)


@pytest.mark.parametrize(
    ("name", "params", "best"),
    [
        ("fastv", {}, 0),
        ("fastv", {"layer": 5}, 0),
        ("pyramiddrop", {}, 1),
        ("vscan_llm", {}, 1),
        ("vscan_llm", {"layer": 5}, 1),
        ("vscan_llm", {"rotary": "dropped"}, 2),
    ],
)
def test_each_reads_its_own_layer(name: str, params: dict[str, object], best: int) -> None:
    assert select_stage(name, seen(), 1, seed=0, params=check_params(name, params)).kept.tolist() == [best]


def test_ties_go_to_the_lower_index() -> None:
    assert select_stage("pyramiddrop", seen(), 3, seed=0, params={}).kept.tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["fastv", "pyramiddrop", "vscan_llm"])
def test_attention_that_is_not_finite_names_its_layer(name: str) -> None:
    layer = LAYER - (name == "fastv")
    broken = StoredDecoderAttention({layer: (torch.full((2, 6, 3), torch.inf), torch.ones(2, 6, 3))}, {}, {layer: 1.0})
    with pytest.raises(ValueError, match=f"layer {layer} hold NaN"):
        select_stage(name, view(6, 1, V, layer=LAYER, attention=broken), 2, seed=0, params=check_params(name, {}))
