"""`lofi.load`: a model of any known family with its processor, for users' own code."""

from typing import Any

from lofi.models.load import load_pretrained


def load(
    path_or_hub_id: str,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    template: str | None = None,
    image_mode: str = "original",
) -> tuple[Any, Any]:
    """The library's own model, ready to answer, and its processor.

    path_or_hub_id: a folder, a hub id in the local cache (`lofi prepare --model` fetches it), or `embedded:<name>`.
    dtype: auto (the checkpoint's own), float32, bfloat16, float16. device: auto (the first GPU, else the CPU), cpu,
    cuda, cuda:<number>, or map (spread over all that there is). Only safetensors are read, and no code of a checkpoint.
    template: the conversation around a question, as docs/models.md lists them; None for the checkpoint's own.
    image_mode: original, or pad, which pads every image to a square in the mean colour as LLaVA-1.5's own loader does.
    """
    return load_pretrained(
        path_or_hub_id, revision=revision, dtype=dtype, device=device, template=template, image_mode=image_mode
    )
