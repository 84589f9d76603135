"""On which device a model's parts compute: all on one, or spread over several where one is too small."""

from typing import Any

import torch
from torch import nn

from lofi.errors import UserError

SPREAD = "map"  # over every GPU, then the CPU's memory, layer by layer


def device_named(device: str) -> torch.device:
    """The device of a name: `auto` is the first GPU, else the CPU. One that this machine lacks is an error."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
    except RuntimeError:
        raise UserError(f"device {device!r} is none; use auto, cpu, cuda, cuda:<number> or {SPREAD}") from None
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {device!r} is not here: this machine has {torch.cuda.device_count()} GPUs; use auto")
    return found


def device_of(module: nn.Module) -> torch.device:
    """Where a module computes. Weights that wait elsewhere until they are needed do not tell, their hook does."""
    hook: Any = getattr(module, "_hf_hook", None)
    device = getattr(hook, "execution_device", None)
    return next(module.parameters()).device if device is None else torch.device(device)
