"""Operations against numbers worked out by hand, published ones, and PyTorch's own count of real models."""

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForImageTextToText, LlavaConfig

from lofi.plan.flops import (
    Decoder,
    Encoder,
    Projector,
    Views,
    encode,
    layer,
    logits,
    parameters,
    prefill,
    row_costs,
    step,
)
from lofi.plan.shape import best_grid, read_shape, shape_of
from tests.families.tiny import FAMILY_NAMES, inputs, pictures, tiny

VICUNA = Decoder(depth=32, width=4096, mlp=11008, queries=4096, keys=4096, vocabulary=32064)
SPLITTING = ("internvl", "smolvlm", "idefics3")
OF_PICTURES = ("pixel_values", "image_sizes", "image_grid_thw", "pixel_attention_mask")


def test_one_layer_by_hand():
    """Three rows of width 2; queries 4 and keys 2 wide; an MLP of 5; every product a x b costs 2ab a row."""
    decoder = Decoder(depth=2, width=2, mlp=5, queries=4, keys=2, vocabulary=7)
    rows = 3
    query_and_output = rows * (2 * 2 * 4 + 2 * 4 * 2)
    key_and_value = rows * 2 * (2 * 2 * 2)
    mlp = rows * 3 * (2 * 2 * 5)
    scores_and_sums = 2 * (2 * rows * rows * 4)
    one = query_and_output + key_and_value + mlp + scores_and_sums
    assert one == 96 + 48 + 180 + 144
    assert layer(decoder, rows, rows) == one
    assert prefill(decoder, [1, 1], 2) == 2 * one
    per_token, per_pair = row_costs(decoder)
    assert rows * per_token + rows**2 * per_pair == one
    assert logits(decoder, rows) == rows * 2 * 2 * 7
    # one token behind three: its own products once, and attention over four keys
    assert step(decoder, [1, 1], 2) == 2 * ((96 + 48 + 180) / 3 + 2 * (2 * 1 * 4 * 4))
    assert parameters(Encoder(1, 2, 3, 4), Projector((2, 2)), decoder) == (
        (4 * 4 + 2 * 2 * 3 + 4 * 2) + 4 + 2 * (2 * 2 * 4 + 2 * 2 * 2 + 3 * 2 * 5) + 2 * 2 * 7
    )


def test_one_picture_by_hand():
    """Two tiles of four patches, and a CLS token; one block of width 2; four rows through a projector 2 -> 3."""
    encoder = Encoder(depth=1, width=2, mlp=4, patch_values=6, extra=1)
    tokens = 5
    block = tokens * (4 * (2 * 2 * 2) + 2 * (2 * 2 * 4)) + 2 * (2 * tokens * tokens * 2)
    tile = 4 * (2 * 6 * 2) + block
    assert encode(encoder, Projector((2, 3)), Views(tiles=2, patches=4, rows=4, tokens=4)) == 2 * tile + 4 * (2 * 2 * 3)


def test_windows_save_attention_alone():
    whole = Encoder(depth=4, width=2, mlp=4, patch_values=6)
    windows = Encoder(depth=4, width=2, mlp=4, patch_values=6, window=4, whole_layers=1)
    views = Views(tiles=1, patches=16, rows=4, tokens=4)
    saved = 3 * 2 * (2 * 16 * (16 - 4) * 2)
    assert encode(whole, Projector((8, 3)), views) - encode(windows, Projector((8, 3)), views) == saved


def test_the_published_figures_of_pyramiddrop():
    """arXiv 2410.17247 counts multiplications, of the visual tokens alone: 3.82 T in full, 1.78 T as published."""
    assert prefill(VICUNA, [576] * 32, 0) / 2 == pytest.approx(3.82e12, rel=2e-3)
    staged = [576] * 8 + [288] * 8 + [144] * 8 + [72] * 8
    assert prefill(VICUNA, staged, 0) / 2 == pytest.approx(1.78e12, rel=2e-3)


def test_llava_7b_from_a_config_that_leaves_most_out():
    shape = shape_of(LlavaConfig(text_config={"model_type": "llama", "vocab_size": 32064}))
    assert shape.decoder == VICUNA
    assert shape.views(640, 480).tokens == 576
    assert shape.weights == pytest.approx(14.13e9, rel=1e-3)  # 7.06 billion numbers of two bytes


def test_the_embedded_model_to_the_last_operation():
    """PyTorch counts products alone, as we do, so nothing may differ.

    With eager attention, because PyTorch counts nothing for the fused kernel of the CPU.
    """
    folder = Path(__file__).parent.parent.parent / "lofi" / "assets" / "digits-llava"
    shape = read_shape(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    pixels = torch.zeros(3, 3, 96, 96)
    encoded = counted(lambda: model.model.get_image_features(pixel_values=pixels))
    assert encoded == 3 * encode(shape.encoder, shape.projector, shape.views(96, 96))
    read = counted(lambda: model.model.language_model(inputs_embeds=torch.zeros(2, 170, 128), use_cache=False))
    assert read == 2 * prefill(shape.decoder, [150] * 6, 20)
    assert counted(lambda: model.lm_head(torch.zeros(5, 128))) == logits(shape.decoder, 5)


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_every_family(name):
    """Two per cent, for Qwen2.5-VL alone, whose windows are smaller at the edges than the count takes them."""
    model, processor = tiny(name)
    model.set_attn_implementation("eager")
    shape = shape_of(model.config)
    for picture in pictures():
        given = inputs(name, processor, [((picture,), "what is this")])
        tokens = int((given["input_ids"] == model.config.image_token_id).sum())
        seen = {key: given[key] for key in OF_PICTURES if key in given}
        views = shape.views(*picture.size)
        pieces = tokens / views.tokens
        assert pieces == 1 or (name in SPLITTING and pieces in (3, 4, 5))
        found = counted(lambda seen=seen: model.model.get_image_features(**seen))
        expected = pieces * encode(shape.encoder, shape.projector, views)
        assert found == pytest.approx(expected, rel=0.02 if name == "qwen2_5_vl" else 0)
    language = model.model.text_model if hasattr(model.model, "text_model") else model.model.language_model
    states = torch.zeros(1, 40, shape.decoder.width)
    read = counted(lambda: language(inputs_embeds=states, use_cache=False))
    assert read == prefill(shape.decoder, [30] * shape.decoder.depth, 10)
    # biases, norms and tables of positions are left out
    n = sum(weight.numel() for weight in model.parameters())
    assert n == pytest.approx(parameters(shape.encoder, shape.projector, shape.decoder), rel=0.04)


def test_the_grid_that_shows_most_and_wastes_least():
    grids = [(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)]
    assert best_grid(640, 480, grids) == (672, 672)
    assert best_grid(1000, 300, grids) == (336, 1008)
    assert best_grid(200, 400, grids) == (672, 336)


def counted(run) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()
