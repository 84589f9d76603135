"""A model's processor without its video part.

The video part of a processor needs torchvision, which has no build for every machine that torch runs on. lofi reads
still images only, so it loads image processor, tokenizer and chat template, through the processor's own class.
"""

import sys
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.processing_utils import ProcessorMixin

from lofi.errors import UserError, unknown
from lofi.models.conversation import template_for, template_names

IMAGE_MODES = ("original", "pad")
PARTS = {"image_processor": AutoImageProcessor, "tokenizer": AutoTokenizer}


class _StillImages(ProcessorMixin):  # type: ignore[misc]
    """Stands before a processor class and leaves out every part that is neither image processor nor tokenizer."""

    @classmethod
    def _get_arguments_from_pretrained(
        cls, folder: str, processor_dict: dict[str, Any] | None = None, **options: Any
    ) -> list[Any]:
        names = cls.get_attributes()
        return [PARTS[name].from_pretrained(folder, **options) if name in PARTS else None for name in names]

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        return None if argument is None else super().check_argument_for_proper_class(argument_name, argument)

    def apply_chat_template(self, *arguments: Any, **options: Any) -> Any:
        # not the family's own: SmolVLM's asks its video part how many frames to sample
        return ProcessorMixin.apply_chat_template(self, *arguments, **options)


def still_images(processor_class: type) -> type:
    """The processor class with its video part left out."""
    module = sys.modules[processor_class.__module__]
    if getattr(module, "num2words", ...) is None:
        # SmolVLM's processor refuses to start without this package, which only spells out the number of video frames
        module.num2words = str  # type: ignore[attr-defined]
    return type(processor_class.__name__, (_StillImages, processor_class), {})


def load_processor(folder: Path) -> Any:
    """The processor of a model's folder, offline."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    return still_images(PROCESSOR_MAPPING[type(config)]).from_pretrained(folder, local_files_only=True)  # type: ignore[attr-defined]


def with_template(processor: Any, template: str | None, source: str) -> Any:
    """The processor under a conversation template: a built-in name, a .jinja file, or None for its own."""
    if template is not None:
        processor.chat_template = template_for(template, processor.image_token)
    elif not processor.chat_template:
        raise UserError(
            f"model {source!r} has no chat template of its own; give its `template`: one of "
            f"{', '.join(template_names())}, or a .jinja file"
        )
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]}]
    try:
        processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    except TemplateError as error:
        named = f"template {template!r}" if template else f"the chat template of model {source!r}"
        reason = " ".join(str(error).split())
        raise UserError(f"{named} cannot be filled in ({reason}); correct it, or name another `template`") from None
    return processor


def with_image_mode(processor: Any, mode: str) -> Any:
    """The processor as it is (`original`), or such that it pads every image to a square first (`pad`)."""
    if mode not in IMAGE_MODES:
        raise unknown("image mode", mode, IMAGE_MODES)
    if mode == "pad" and not getattr(processor.image_processor, "do_pad", None):  # some pad by themselves
        kind = type(processor.image_processor)
        processor.image_processor.__class__ = type(kind.__name__, (_Square, kind), {})
    return processor


class _Square:
    """Stands before a class of image processors and pads each image before anything else is done to it."""

    def process_image(self, image: Any, *arguments: Any, **options: Any) -> Any:
        return super().process_image(shown_to(self, image), *arguments, **options)  # type: ignore[misc]


def shown_to(image_processor: Any, image: Image.Image) -> Image.Image:
    """The picture that an image processor works on: the image, or its square."""
    if not isinstance(image_processor, _Square):
        return image
    # LLaVA cuts the mean off, it does not round it
    red, green, blue = (int(255 * channel) for channel in image_processor.image_mean)  # type: ignore[attr-defined]
    return square(image, (red, green, blue))


def square(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """An RGB image in the middle of a square of that colour; an odd pixel of the border goes below or to the right."""
    side = max(image.size)
    if image.size == (side, side):
        return image
    padded = Image.new("RGB", (side, side), colour)
    padded.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return padded
