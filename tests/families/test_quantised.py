"""Quantised weights in every family: the whole decoder, a little for int8 and more for int4, and it still answers."""

import pytest
import torch

from lofi.models.adapter import Adapter
from lofi.models.families import get_family
from lofi.models.weights import BITS, quantise
from tests.families.tiny import FAMILY_NAMES, inputs, pictures, tiny

LINEAR = 7  # of a decoder layer: queries, keys, values, output, and the three of the MLP


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_the_decoder_is_quantised_whole_and_still_answers(name: str) -> None:
    off = {}
    for weights in BITS:
        model, processor = tiny(name)
        adapter = Adapter(model, processor, get_family(model.config.to_dict(), name))
        batch = inputs(name, processor, [((pictures()[0],), "How many?")])
        with torch.inference_mode():
            full = model(**batch).logits[0, -1].log_softmax(-1)
            assert quantise(adapter, weights).layers == LINEAR * len(adapter.layers)
            this = model(**batch).logits[0, -1].log_softmax(-1)
            assert (
                model.generate(**batch, max_new_tokens=3, min_new_tokens=3).shape[1] == batch["input_ids"].shape[1] + 3
            )
        off[weights] = float((full.exp() * (full - this)).sum())
    assert 0 < off["int8"] < 0.01
    assert 10 * off["int8"] < off["int4"] < 2
