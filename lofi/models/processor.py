"""A model's processor without its video part.

The video part of a processor needs torchvision, which has no build for every machine that torch runs on. lofi reads
still images only, so it loads image processor, tokenizer and chat template, through the processor's own class.
"""

import sys
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.processing_utils import ProcessorMixin

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
