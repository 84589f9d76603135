"""Images as processors are shown them: padded or not, in two halves or whole, always the same numbers."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

import lofi
from lofi.errors import UserError
from lofi.models.conversation import chat_inputs
from lofi.models.facts import ASSETS
from lofi.models.load import load_model
from lofi.models.opened import open_picture
from lofi.models.pictures import Opening
from lofi.models.processor import load_processor, square, with_image_mode
from tests.families import processors
from tests.families.tiny import FAMILY_NAMES

CPU = torch.device("cpu")
SIZES = ((96, 96), (336, 336), (64, 48), (50, 400), (97, 95), (20, 10), (96, 200))
COLOUR = (122, 116, 104)  # CLIP's mean as LLaVA cuts it off


def noise(width: int, height: int) -> Image.Image:
    draw = np.random.default_rng((width, height))
    return Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(7, 4), (4, 7), (5, 5), (1, 2)])
def test_the_square_holds_the_image_in_its_middle(size: tuple[int, int]) -> None:
    image, side = noise(*size), max(size)
    padded = np.asarray(square(image, COLOUR))
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    expected = np.full((side, side, 3), COLOUR, dtype=np.uint8)
    expected[top : top + size[1], left : left + size[0]] = np.asarray(image)
    assert np.array_equal(padded, expected)


def test_pad_shows_a_processor_the_square_in_its_mean_colour() -> None:
    plain, padding = (load_processor(ASSETS / "digits-llava") for _ in range(2))
    for processor in (plain, padding):
        processor.image_processor.image_mean = [0.48145466, 0.4578275, 0.40821073]
    with_image_mode(plain, "original")
    with_image_mode(padding, "pad")
    image = noise(64, 48)
    shown = chat_inputs(padding, [([image], "?")])["pixel_values"]
    assert torch.equal(shown, chat_inputs(plain, [([square(image, COLOUR)], "?")])["pixel_values"])
    assert not torch.equal(shown, chat_inputs(plain, [([image], "?")])["pixel_values"])


def test_a_processor_that_pads_by_itself_is_left() -> None:
    processor = processors.processor("llava")
    processor.image_processor = LlavaImageProcessorPil(do_pad=True)
    assert type(with_image_mode(processor, "pad").image_processor) is LlavaImageProcessorPil
    with pytest.raises(UserError, match="'square': choose from original, pad"):
        with_image_mode(processor, "square")


def test_score_and_the_engine_see_the_same_padded_image() -> None:
    model, processor = lofi.load("embedded:digits-llava", device="cpu", image_mode="pad")
    _, plain = lofi.load("embedded:digits-llava", device="cpu")
    image, question = noise(120, 60), "What color is the 3?"
    padded = lofi.score(model, processor, [image], [question]).logits
    assert torch.equal(padded, lofi.score(model, plain, [square(image, (127, 127, 127))], [question]).logits)


@pytest.mark.parametrize("mode", ["original", "pad"])
@pytest.mark.parametrize("kind", ["clip", "siglip", "uncropped"])
def test_both_halves_give_what_the_processor_gives(kind: str, mode: str) -> None:
    processor = load_processor(ASSETS / "digits-llava")
    if kind == "siglip":
        processor.image_processor = SiglipImageProcessorPil(size={"height": 96, "width": 96})
    elif kind == "uncropped":
        processor.image_processor.do_center_crop = False
    opening = Opening(with_image_mode(processor, mode), CPU)
    assert opening.halves is not None
    for size in SIZES:
        whole = chat_inputs(processor, [([noise(*size)], "What is it?")])
        picture = opening.open(noise(*size), "What is it?")
        assert picture.inputs["pixel_values"].dtype == torch.uint8
        found = opening.finished(picture, CPU)
        assert torch.equal(found["pixel_values"], whole["pixel_values"])
        n = int((found["input_ids"] == processor.image_token_id).sum())
        assert n == int((whole["input_ids"] == processor.image_token_id).sum()) > 0


def test_a_processor_with_steps_of_its_own_runs_whole() -> None:
    for name in FAMILY_NAMES:
        opening = Opening(processors.processor(name), CPU)
        assert (opening.halves is not None) == (name == "llava"), name
    opening = Opening(load_processor(ASSETS / "digits-qwen"), CPU)
    whole = chat_inputs(opening.processor, [([noise(96, 96)], "What is it?")])
    picture = opening.open(noise(96, 96), "What is it?")
    assert all(torch.equal(picture.inputs[name], whole[name]) for name in whole)


def test_a_processor_whose_halves_would_differ_runs_whole() -> None:
    processor = load_processor(ASSETS / "digits-llava")
    processor.image_processor.rescale_factor = 1 / 254.4  # no whole number stands for white
    assert Opening(processor, CPU).halves is None


def test_a_picture_in_two_halves_is_encoded_as_a_whole_one() -> None:
    adapter = load_model("embedded:digits-llava", device="cpu")
    halved = open_picture(adapter, noise(120, 96), "What is it?")
    adapter.opening.halves = None
    whole = open_picture(adapter, noise(120, 96), "What is it?")
    assert torch.equal(halved.before, whole.before)
    assert torch.equal(halved.positions, whole.positions)
    assert torch.equal(halved.pixels["pixel_values"], whole.pixels["pixel_values"])
    assert halved.pixels.keys() == whole.pixels.keys()
