"""Loading a model and its processor through the ordinary auto classes, safetensors only, offline."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lofi.errors import UserError, unknown
from lofi.models.facts import UNREADABLE, check_pixel_limits, local_folder, read_object
from lofi.models.families import get_family

if TYPE_CHECKING:
    from lofi.models.adapter import Adapter

DTYPES = ("auto", "float32", "bfloat16", "float16")
ATTENTIONS = ("sdpa", "eager")
SHOWN = 300  # letters of what a library says, which may be pages


def load_model(
    source: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    attention: str = "sdpa",
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    template: str | None = None,
    image_mode: str = "original",
) -> "Adapter":
    """The adapter of a model: what `load_pretrained` gives, seen through its family's description."""
    from lofi.models.adapter import Adapter

    model, processor = load_pretrained(
        source,
        revision=revision,
        dtype=dtype,
        device=device,
        attention=attention,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
        template=template,
        image_mode=image_mode,
    )
    return Adapter(model, processor, get_family(model.config.to_dict(), source))


def load_pretrained(
    source: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    attention: str = "sdpa",
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    template: str | None = None,
    image_mode: str = "original",
) -> tuple[Any, Any]:
    """The library's own model, ready to answer, and its processor: a hub id in the local cache, a folder, or
    `embedded:<name>`.

    dtype `auto` is the checkpoint's own; device `auto` is the first GPU, else the CPU, and `map` spreads a model over
    all that there is. min_pixels and max_pixels bound the size of an image where the processor follows it. template: a
    built-in one's name or a .jinja file; None is the checkpoint's own. image_mode `pad`: squares in the mean colour.
    """
    for kind, value, known in (("dtype", dtype, DTYPES), ("attention", attention, ATTENTIONS)):
        if value not in known:
            raise unknown(kind, value, known)
    from lofi.models.processor import with_image_mode, with_template

    folder = local_folder(source, revision)
    get_family(read_object(folder / "config.json"), source)
    limits = {"min_pixels": min_pixels, "max_pixels": max_pixels}
    processor = _processor(source, folder, {name: value for name, value in limits.items() if value is not None})
    processor = with_image_mode(with_template(processor, template, source), image_mode)
    return _model(folder, dtype, device, attention), processor


def _processor(source: str, folder: Path, limits: dict[str, int]) -> Any:
    from lofi.models.processor import load_processor

    check_pixel_limits(source, folder, limits)
    try:
        processor = load_processor(folder)
    except UNREADABLE as error:
        raise _unusable("processor", folder, error) from error
    if limits:
        kind = type(processor.image_processor)
        processor.image_processor = kind.from_pretrained(folder, local_files_only=True, **limits)
        size = processor.image_processor.size  # its edges are numbers of pixels
        if size["shortest_edge"] > size["longest_edge"]:
            raise UserError(
                f"model {source!r} has at least {size['shortest_edge']} and at most {size['longest_edge']} pixels; "
                "give min_pixels and max_pixels that leave something between them"
            )
    return processor


def _model(folder: Path, dtype: str, device: str, attention: str) -> Any:
    from transformers.utils import logging

    from lofi.models.placement import SPREAD, device_named

    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    target = None if device == SPREAD else device_named(device)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what it would warn of is refused below
    try:
        model = _weighed(
            folder, dtype=dtype, attn_implementation=attention, device_map="auto" if target is None else None
        )
    finally:
        logging.set_verbosity(verbosity)
    if target is not None:
        model.to(target)
    return model.eval().requires_grad_(False)


def _weighed(folder: Path, **options: Any) -> Any:
    """The model with all of its weights: the library would make up those that a checkpoint lacks."""
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText

    try:
        model, found = AutoModelForImageTextToText.from_pretrained(
            folder,
            **options,
            use_safetensors=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (SafetensorError, *UNREADABLE) as error:
        raise _unusable("model", folder, error) from error
    lacking = sorted([*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])])
    if lacking:
        raise UserError(
            f"the weights in {folder} are not those of its config.json: {len(lacking)} are missing or have another "
            f"shape, {lacking[0]} first; copy the checkpoint again, all of it"
        )
    return model


def _unusable(what: str, folder: Path, error: Exception) -> UserError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:SHOWN]
    return UserError(
        f"the {what} in {folder} cannot be loaded ({reason}); copy the checkpoint again, all of it, or delete it and "
        "run `lofi prepare --model` where there is a network"
    )
