"""Seeded scenes: three to five handwritten digits in colour on a noisy background, 96 x 96 pixels.

The digits come from lofi/assets/handwritten-digits (UCI, CC BY 4.0): the first 1,397 images train, the last 400
evaluate, and nothing mixes them. A scene is data; drawing it is a pure function of the scene.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "evaluation"]

DIGITS = Path(__file__).parents[2] / "assets" / "handwritten-digits" / "digits.csv.gz"
SIDE = 96
PATCH = 8
GRID = SIDE // PATCH
GLYPH = 16
TRAIN_GLYPHS = 1397
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 48, 48),
    "green": (46, 190, 72),
    "blue": (72, 92, 240),
    "yellow": (236, 212, 48),
}
COLOUR_NAMES = tuple(COLOURS)
MIN_DIGITS, MAX_DIGITS = 3, 5

# Some digits are common and every digit has a favourite companion, so that popular and adversarial absent digits
# (POPE's harder negatives) differ from random ones.
POPULARITY = np.array([1.0, 1.4, 0.8, 1.2, 0.7, 0.9, 1.3, 1.1, 0.6, 1.0])
COMPANION = (3, 6, 5, 8, 1, 7, 4, 9, 0, 2)
COMPANION_CHANCE = 0.4
GAP = 3  # cells between top-left corners: a digit covers 2 x 2 cells and neighbours keep one cell apart


@dataclass(frozen=True)
class Placed:
    """One digit: what it is, which handwritten sample, and where."""

    digit: int
    colour: str
    row: int  # grid cell of the top-left corner, 0..GRID-2
    column: int
    dy: int  # jitter in pixels, -1..1
    dx: int
    glyph: int  # line of DIGITS
    variant: int = 0  # which warp of the glyph; 0 is the glyph itself, the only one evaluation uses


@dataclass(frozen=True)
class Scene:
    """Digits in raster order (no digit twice) and the seed of the background."""

    placed: tuple[Placed, ...]
    background: tuple[int, int]

    @property
    def digits(self) -> tuple[int, ...]:
        """The digits in raster order."""
        return tuple(p.digit for p in self.placed)

    def colour_of(self, digit: int) -> str:
        """The colour of a digit that is in the scene."""
        return next(p.colour for p in self.placed if p.digit == digit)

    def with_colour(self, colour: str) -> tuple[int, ...]:
        """The digits of one colour."""
        return tuple(p.digit for p in self.placed if p.colour == colour)


@cache
def handwritten() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """All 1,797 handwritten digits as opacity masks (1797, 16, 16) in 0..1, and their labels."""
    from PIL import Image

    lines = np.loadtxt(DIGITS, delimiter=",")
    small = np.clip(lines[:, :-1].reshape(-1, 8, 8) * (255 / 16), 0, 255).astype(np.uint8)
    large = [Image.fromarray(image).resize((GLYPH, GLYPH), Image.Resampling.BICUBIC) for image in small]
    masks = np.stack([np.asarray(image, dtype=np.float32) for image in large]) / np.float32(255)
    return masks.astype(np.float32), lines[:, -1].astype(np.int64)


@cache
def glyphs_of(split: Split) -> tuple[NDArray[np.int64], ...]:
    """For each digit 0..9 the indices of its handwritten samples in one split."""
    labels = handwritten()[1]
    inside = np.arange(len(labels)) < TRAIN_GLYPHS
    if split == "evaluation":
        inside = ~inside
    return tuple(np.flatnonzero(inside & (labels == digit)) for digit in range(10))


def sample_scene(seed: int, index: int, *, split: Split, variants: int = 1) -> Scene:
    """Scene number `index` of a seed; `variants` is how many warps of each glyph the caller can draw."""
    rng = np.random.default_rng([seed, index, 0 if split == "train" else 1])
    count = int(rng.integers(MIN_DIGITS, MAX_DIGITS + 1))
    cells = sorted(_cells(rng, count))
    digits = _digits(rng, count)
    rng.shuffle(digits)
    glyphs = glyphs_of(split)
    placed = tuple(
        Placed(
            digit=digit,
            colour=COLOUR_NAMES[int(rng.integers(len(COLOUR_NAMES)))],
            row=row,
            column=column,
            dy=int(rng.integers(-1, 2)) if 0 < row < GRID - 2 else 0,
            dx=int(rng.integers(-1, 2)) if 0 < column < GRID - 2 else 0,
            glyph=int(rng.choice(glyphs[digit])),
            variant=int(rng.integers(variants)),
        )
        for digit, (row, column) in zip(digits, cells, strict=True)
    )
    return Scene(placed=placed, background=(seed, int(rng.integers(2**31))))


def _digits(rng: np.random.Generator, count: int) -> list[int]:
    """Distinct digits; each one often brings its companion."""
    chosen: list[int] = []
    while len(chosen) < count:
        if chosen and rng.random() < COMPANION_CHANCE:
            digit = COMPANION[chosen[-1]]
        else:
            digit = int(rng.choice(10, p=POPULARITY / POPULARITY.sum()))
        if digit not in chosen:
            chosen.append(digit)
    return chosen


def _cells(rng: np.random.Generator, count: int) -> list[tuple[int, int]]:
    """Top-left cells that keep a gap; starts again in the rare case that the grid is blocked."""
    while True:
        cells: list[tuple[int, int]] = []
        for row, column in rng.integers(0, GRID - 1, size=(40, 2)).tolist():
            if all(abs(row - r) >= GAP or abs(column - c) >= GAP for r, c in cells):
                cells.append((row, column))
            if len(cells) == count:
                return cells


def draw(scene: Scene, masks: NDArray[np.floating] | None = None) -> NDArray[np.uint8]:
    """The picture (96, 96, 3) of a scene.

    masks: (variants, 1797, 16, 16) opacity; without it only variant 0, the handwriting itself, can be drawn.
    """
    if masks is None:
        masks = handwritten()[0][None]
    rng = np.random.default_rng(scene.background)
    canvas = _background(rng)
    for placed in scene.placed:
        top, left = placed.row * PATCH + placed.dy, placed.column * PATCH + placed.dx
        opacity = masks[placed.variant, placed.glyph].astype(np.float32)[:, :, None]
        ink = np.array(COLOURS[placed.colour], dtype=np.float32) + rng.uniform(-16, 16, 3).astype(np.float32)
        window = canvas[top : top + GLYPH, left : left + GLYPH]
        window += opacity * (ink - window)
    canvas += rng.normal(0, 6, canvas.shape).astype(np.float32)
    return np.clip(canvas, 0, 255).round().astype(np.uint8)


def _background(rng: np.random.Generator) -> NDArray[np.float32]:
    """A dull linear gradient in a random direction with coarse noise."""
    start, end = rng.uniform(20, 110, (2, 3)) * 0.5 + rng.uniform(20, 110, (2, 1)) * 0.5
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1) - 0.5
    along = (0.5 + 0.7 * (np.cos(angle) * x + np.sin(angle) * y))[:, :, None]
    coarse = rng.normal(0, 8, (GRID * 2, GRID * 2, 1)).repeat(4, axis=0).repeat(4, axis=1)
    return np.asarray(start + along * (end - start) + coarse, dtype=np.float32)
