"""Loading a model and its processor through the ordinary auto classes, safetensors only, offline."""

import json
import sys
from typing import TYPE_CHECKING

from lofi.errors import UserError
from lofi.models.facts import model_folder
from lofi.models.families import get_family

if TYPE_CHECKING:
    from lofi.models.adapter import Adapter

DTYPES = ("auto", "float32", "bfloat16", "float16")


def load_model(
    source: str, *, revision: str | None = None, dtype: str = "auto", device: str = "auto", attention: str = "sdpa"
) -> "Adapter":
    """The adapter of a model: a hub id in the local cache, a folder, or `embedded:<name>`.

    dtype `auto` is the checkpoint's own; device `auto` is the first GPU, else the CPU.
    """
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    from lofi.models.adapter import Adapter

    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    folder = model_folder(source, revision)
    if folder is None:
        raise UserError(f"model {source!r} is not on this machine; run `lofi prepare --model` where there is a network")
    family = get_family(json.loads((folder / "config.json").read_text()), source)
    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    model = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=dtype, attn_implementation=attention, use_safetensors=True, local_files_only=True
    )
    target = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    model.to(target).eval().requires_grad_(False)
    return Adapter(model, processor, family)
