"""Pictures as a processor makes them, before any model: what can be done ahead of time and in another process."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers.image_processing_backends import PilBackend
from transformers.image_transforms import center_crop, get_resize_output_image_size
from transformers.image_utils import ChannelDimension

from lofi.models.conversation import chat_inputs
from lofi.models.processor import shown_to

PIXELS = "pixel_values"
STEPS = ("_preprocess", "preprocess", "resize", "center_crop", "rescale", "normalize", "pad")
PROBE = (53, 37)  # height and width of a picture that both halves must agree on: neither square nor of any model's size


@dataclass(frozen=True)
class Picture:
    """One image as the processor hands it over: with its prompt, or as bytes that are still to be normalised."""

    inputs: Mapping[str, Tensor]


class Opening:
    """How a processor opens images. It travels to other processes, the model does not."""

    def __init__(self, processor: Any, device: torch.device) -> None:
        self.processor = processor
        self.halves = halves_of(processor, device)
        self._prompts: dict[tuple[int, ...], dict[str, Tensor]] = {}

    def open(self, image: Image.Image, text: str) -> Picture:
        """One RGB image in front of a question."""
        if self.halves is None:
            return Picture(dict(chat_inputs(self.processor, [([image], text)])))
        return Picture({PIXELS: torch.from_numpy(self.halves.frame(image))})

    def finished(self, picture: Picture, device: torch.device) -> Mapping[str, Tensor]:
        """All inputs of a picture and its prompt; what is still to be normalised is so on the device."""
        if self.halves is None:
            return picture.inputs
        raw = picture.inputs[PIXELS]
        return {**self._prompt(tuple(raw.shape)), PIXELS: self.halves.normalised(raw.to(device))[None]}

    def _prompt(self, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """The prompt of a picture of that shape, up to its question: nothing else of a picture decides it here."""
        if shape not in self._prompts:
            blank = Image.new("RGB", (shape[2], shape[1]))
            inputs = dict(chat_inputs(self.processor, [([blank], "")]))
            self._prompts[shape] = {name: inputs[name] for name in inputs if name != PIXELS}
        return self._prompts[shape]


class Halves:
    """An image processor that resizes, crops and normalises, in two halves: bytes first, arithmetic later.

    The bytes are a quarter of what is handed over in the end, so they are what workers send. Both halves give together
    what the processor gives, to the last bit.
    """

    def __init__(self, image_processor: Any) -> None:
        self.image_processor = image_processor
        # of shape (3, 1, 1), since a division by a number may be done as a multiplication, which rounds otherwise
        self._white = torch.full((3, 1, 1), round(1 / image_processor.rescale_factor), dtype=torch.float32)
        self._mean = torch.tensor(image_processor.image_mean, dtype=torch.float32)[:, None, None]
        self._std = torch.tensor(image_processor.image_std, dtype=torch.float32)[:, None, None]

    def frame(self, image: Image.Image) -> np.ndarray:
        """(3, h, w) uint8: the picture in its final size."""
        given = self.image_processor
        image = shown_to(given, image)
        if given.do_resize:
            height, width = _resized(image, given.size)
            if image.size != (width, height):
                image = image.resize((width, height), resample=given.resample)
        pixels = planes(image)
        if given.do_center_crop:
            size = (given.crop_size["height"], given.crop_size["width"])
            if pixels.shape[1:] != size:
                pixels = center_crop(pixels, size, ChannelDimension.FIRST, ChannelDimension.FIRST)
        return np.ascontiguousarray(pixels)

    def normalised(self, raw: Tensor) -> Tensor:
        """(3, h, w) bytes to (3, h, w) float32, where they are."""
        white, mean, std = (each.to(raw.device) for each in (self._white, self._mean, self._std))
        return raw.float().div_(white).sub_(mean).div_(std)


def planes(image: Image.Image) -> np.ndarray:
    """(3, h, w) uint8: the red, green and blue of a picture. Faster than splitting it, which copies twice."""
    pixels = np.empty((3, image.height, image.width), np.uint8)
    for plane, band in zip(pixels, "RGB", strict=True):
        plane.reshape(-1)[:] = np.frombuffer(image.tobytes("raw", band), np.uint8)
    return pixels


def _resized(image: Image.Image, size: Any) -> tuple[int, int]:
    """Height and width of a picture after the processor's resizing."""
    if size.shortest_edge:
        shape = np.empty((image.height, image.width, 0))
        found = get_resize_output_image_size(
            shape, size.shortest_edge, default_to_square=False, input_data_format=ChannelDimension.LAST
        )
        return int(found[0]), int(found[1])
    return int(size.height), int(size.width)


def halves_of(processor: Any, device: torch.device) -> Halves | None:
    """The two halves of a processor that has them and gives the same on this device, else None: then it runs whole."""
    given = processor.image_processor
    if not (
        isinstance(given, PilBackend) and all(getattr(type(given), step) is getattr(PilBackend, step) for step in STEPS)
    ):
        return None
    size = given.size
    sized = size.shortest_edge and not size.longest_edge if size.shortest_edge else size.height and size.width
    if given.do_pad or not (given.do_rescale and given.do_normalize) or (given.do_resize and not sized):
        return None
    halves = Halves(given)
    return halves if _agree(processor, halves, device) else None


def _agree(processor: Any, halves: Halves, device: torch.device) -> bool:
    """Whether both halves give what the processor gives: for every byte, and for one picture that is resized."""
    given = processor.image_processor
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8).reshape(16, 16), (3, 16, 16)).copy()
    levels = given.normalize(given.rescale(ramp, given.rescale_factor), given.image_mean, given.image_std)
    if not np.array_equal(levels, halves.normalised(torch.from_numpy(ramp).to(device)).cpu().numpy()):
        return False
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*PROBE, 3), dtype=np.uint8))
    whole = chat_inputs(processor, [([image], "")])[PIXELS][0]
    return torch.equal(whole, halves.normalised(torch.from_numpy(halves.frame(image))))
