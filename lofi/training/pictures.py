"""Training pictures: scenes drawn once with warped handwriting, and the labels of every patch."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import affine_transform
from torch import Tensor
from tqdm import tqdm

from lofi.data.digits.scenes import (
    COLOUR_NAMES,
    GLYPH,
    GRID,
    SIDE,
    TRAIN_GLYPHS,
    Scene,
    Split,
    draw,
    handwritten,
    sample_scene,
)

WARPS = 24


@dataclass(frozen=True)
class Pictures:
    """Scenes with their pictures and patch labels (0 is background)."""

    scenes: list[Scene]
    images: NDArray[np.uint8]  # (b, 96, 96, 3)
    digits: Tensor  # (b, n) long, 0 or digit + 1
    colours: Tensor  # (b, n) long, 0 or colour + 1

    def __len__(self) -> int:
        return len(self.scenes)


def warped_masks(seed: int, warps: int = WARPS) -> NDArray[np.float16]:
    """Opacity masks (warps, 1797, 16, 16): variant 0 is the handwriting, the others are small affine warps.

    1,397 training digits are few: without warps the encoder learns the samples and not the digits.
    """
    masks, _ = handwritten()
    bank = np.zeros((warps, *masks.shape), dtype=np.float16)
    bank[0] = masks
    rng = np.random.default_rng([seed, 7])
    centre = (GLYPH - 1) / 2
    for variant in range(1, warps):
        for index in range(TRAIN_GLYPHS):
            angle, shear = rng.uniform(-0.25, 0.25), rng.uniform(-0.2, 0.2)
            stretch = rng.uniform(0.85, 1.15, 2)
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            matrix = turn @ np.array([[stretch[0], shear], [0.0, stretch[1]]])
            offset = centre - matrix @ np.array([centre, centre]) + rng.uniform(-0.8, 0.8, 2)
            warped = affine_transform(masks[index], matrix, offset=offset, order=1)
            bank[variant, index] = np.clip(warped * rng.uniform(0.85, 1.1), 0, 1)
    return bank


def draw_pictures(seed: int, count: int, *, split: Split, warps: int = WARPS) -> Pictures:
    """Draw `count` scenes of a split; only training handwriting is warped."""
    variants = warps if split == "train" else 1
    masks = warped_masks(seed, variants)
    scenes = [sample_scene(seed, index, split=split, variants=variants) for index in range(count)]
    images = np.empty((count, SIDE, SIDE, 3), dtype=np.uint8)
    digits = torch.zeros(count, GRID, GRID, dtype=torch.long)
    colours = torch.zeros(count, GRID, GRID, dtype=torch.long)
    for index, scene in enumerate(tqdm(scenes, desc=f"draw {split} scenes", mininterval=5)):
        images[index] = draw(scene, masks)
        for placed in scene.placed:
            cells = (index, slice(placed.row, placed.row + 2), slice(placed.column, placed.column + 2))
            digits[cells] = placed.digit + 1
            colours[cells] = COLOUR_NAMES.index(placed.colour) + 1
    return Pictures(scenes=scenes, images=images, digits=digits.flatten(1), colours=colours.flatten(1))
