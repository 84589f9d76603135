"""Stage 1: the vision encoder learns what stands where before the language model reads a single word.

Every patch must know its digit and its colour at the layer that the projector reads, and the CLS token must know
what is in the scene: reducers rank visual tokens by CLS attention, which would mean nothing without this.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionModel

from lofi.training.loop import Schedule, fit, generator_of
from lofi.training.model import MEAN, STD
from lofi.training.pictures import Pictures

BATCH = 32
BACKGROUND_WEIGHT = 0.1  # 128 of 144 patches are background
SCHEDULE = Schedule(steps=2800, rate=1.5e-3, warmup=150, decay=1400, weight_decay=0.05, report_every=200)


class Encoder(nn.Module):
    """The vision tower with the heads that teach it; the heads are dropped afterwards."""

    def __init__(self, tower: CLIPVisionModel) -> None:
        super().__init__()
        width = tower.config.hidden_size
        self.tower = tower
        self.patch_norm = nn.LayerNorm(width)
        self.digit = nn.Linear(width, 11)
        self.colour = nn.Linear(width, 5)
        self.scene = nn.ModuleList([nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 14)) for _ in range(2)])

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Pixels (b, 3, 96, 96) to digit logits (b, n, 11), colour logits (b, n, 5) and 2 scene logits (b, 14)."""
        states = self.tower(pixel_values=pixels, output_hidden_states=True).hidden_states
        patches = self.patch_norm(states[-2][:, 1:])
        scene = [head(states[layer][:, 0]) for head, layer in zip(self.scene, (-2, -1), strict=True)]
        return self.digit(patches), self.colour(patches), scene


def pixels_of(images: NDArray[np.uint8]) -> Tensor:
    """Pictures (b, 96, 96, 3) as the image processor hands them over: (b, 3, 96, 96), normalised."""
    scaled = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    return scaled.sub_(mean).div_(std).contiguous()


def scene_targets(digits: Tensor, colours: Tensor) -> Tensor:
    """Which of 10 digits and 4 colours occur: (b, 14) float from patch labels (b, n)."""
    rows = len(digits)
    found = torch.zeros(rows, 11 + 5)
    found.scatter_(1, digits, 1.0)
    found.scatter_(1, colours + 11, 1.0)
    return torch.cat([found[:, 1:11], found[:, 12:]], dim=1)


def encoder_loss(encoder: Encoder, pixels: Tensor, digits: Tensor, colours: Tensor) -> Tensor:
    """Weighted patch classification plus the multi-label loss of the CLS token."""
    digit_logits, colour_logits, scene_logits = encoder(pixels)
    weight = torch.where(digits > 0, 1.0, BACKGROUND_WEIGHT)
    patch = sum(
        F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none", label_smoothing=0.02)
        for logits, labels in ((digit_logits, digits), (colour_logits, colours))
    )
    targets = scene_targets(digits, colours).to(pixels.device)
    scene = sum(F.binary_cross_entropy_with_logits(logits, targets) for logits in scene_logits)
    return (patch * weight.flatten()).sum() / weight.sum() + 0.5 * scene


@torch.no_grad()
def encoder_accuracy(encoder: Encoder, held_out: Pictures, device: torch.device) -> dict[str, float]:
    """Accuracy on unseen handwriting: digit patches, their colours, background, and the CLS token."""
    encoder.eval()
    right: dict[str, list[Tensor]] = {"digit": [], "colour": [], "background": [], "scene": []}
    for start in range(0, len(held_out), 100):
        rows = slice(start, start + 100)
        digits, colours = held_out.digits[rows], held_out.colours[rows]
        digit, colour, scene = (
            part.cpu() if isinstance(part, Tensor) else part[0].cpu()
            for part in encoder(pixels_of(held_out.images[rows]).to(device))
        )
        filled = digits > 0
        right["digit"].append((digit.argmax(-1) == digits)[filled])
        right["colour"].append((colour.argmax(-1) == colours)[filled])
        right["background"].append((digit.argmax(-1) == 0)[~filled])
        right["scene"].append(((scene > 0) == (scene_targets(digits, colours) > 0)).flatten())
    encoder.train()
    return {name: torch.cat(parts).float().mean().item() for name, parts in right.items()}


def train_encoder(
    encoder: Encoder,
    pictures: Pictures,
    held_out: Pictures,
    *,
    checkpoint: Path,
    seed: int,
    device: torch.device,
    schedule: Schedule = SCHEDULE,
    stop_after: int | None = None,
) -> int:
    """Stage 1 in place; returns the steps done."""
    encoder.to(device).train()
    loss_of = _loss_by_step(encoder, pictures, seed, device)
    return fit(
        encoder,
        loss_of,
        schedule=schedule,
        checkpoint=checkpoint,
        report=lambda: encoder_accuracy(encoder, held_out, device),
        stop_after=stop_after,
    )


def _loss_by_step(encoder: Encoder, pictures: Pictures, seed: int, device: torch.device) -> Callable[[int], Tensor]:
    def loss_of(step: int) -> Tensor:
        rows = torch.randint(len(pictures), (BATCH,), generator=generator_of(seed, 1, step))
        pixels = pixels_of(pictures.images[rows.numpy()]).to(device)
        digits, colours = pictures.digits[rows].to(device), pictures.colours[rows].to(device)
        return encoder_loss(encoder, pixels, digits, colours)

    return loss_of
