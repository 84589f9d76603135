"""What the training must know of an architecture, and nothing else of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from lofi.training.words import Dialect


@dataclass(frozen=True)
class Sight:
    """What a vision tower makes of b pictures."""

    patches: Tensor  # (b, n, width) in raster order: what the projector reads
    scene: tuple[Tensor, ...]  # (b, width) each: states that must know what is in the picture; may be none


@dataclass(frozen=True)
class Widths:
    """How wide the parts of a `Sight` are."""

    patches: int
    scene: tuple[int, ...]


@dataclass(frozen=True)
class Student:
    """One architecture that learns to read digit scenes; configs, models and processors are the library's own."""

    name: str
    dialect: Dialect
    build_config: Callable[..., Any]
    build_tower: Callable[[Any], nn.Module]  # from the config, untrained
    build_model: Callable[[Any], Any]  # from the config, untrained
    build_processor: Callable[[], Any]
    save_processor: Callable[[Path], None]
    pixels: Callable[[NDArray[np.uint8]], Tensor]  # (b, 96, 96, 3) as the image processor hands them over, (b, ...)
    look: Callable[[nn.Module, Tensor], Sight]
    widths: Callable[[Any], Widths]
    tower_of: Callable[[Any], nn.Module]  # from the model
    projector_of: Callable[[Any], nn.Module]  # from the model: (b, n, width) to (b, n, d)
    positions: Callable[[Tensor, int, int], Tensor]  # raster places (b, n), text before, after: (axes, b, p)
    portrait: str  # the architecture in words, for the card
