"""Stage 1: the vision encoder learns what stands where before the language model reads a single word.

Every visual token must know its digit and its colour at the layer that the projector reads. Where there is a CLS
token, it must know what is in the scene: reducers rank visual tokens by CLS attention, which would mean nothing
without this.
"""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lofi.training.loop import Schedule, fit, generator_of
from lofi.training.pictures import Pictures
from lofi.training.student import Student

BACKGROUND_WEIGHT = 0.1  # 128 of 144 patches are background
SCHEDULE = Schedule(steps=2800, rate=1.5e-3, batch=32, warmup=150, decay=1400, weight_decay=0.05, report_every=200)


class Encoder(nn.Module):
    """The vision tower with the heads that teach it; the heads are dropped afterwards."""

    def __init__(self, student: Student, config: Any) -> None:
        super().__init__()
        self.student = student
        self.tower = student.build_tower(config)
        widths = student.widths(config)
        self.patch_norm = nn.LayerNorm(widths.patches)
        self.digit = nn.Linear(widths.patches, 11)
        self.colour = nn.Linear(widths.patches, 5)
        self.scene = nn.ModuleList([nn.Sequential(nn.LayerNorm(w), nn.Linear(w, 14)) for w in widths.scene])

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Pixels (b, ...) to digit logits (b, n, 11), colour logits (b, n, 5) and scene logits (b, 14)."""
        sight = self.student.look(self.tower, pixels)
        patches = self.patch_norm(sight.patches)
        scene = [head(state) for head, state in zip(self.scene, sight.scene, strict=True)]
        return self.digit(patches), self.colour(patches), scene


def scene_targets(digits: Tensor, colours: Tensor) -> Tensor:
    """Which of 10 digits and 4 colours occur: (b, 14) float from patch labels (b, n)."""
    rows = len(digits)
    found = torch.zeros(rows, 11 + 5)
    found.scatter_(1, digits, 1.0)
    found.scatter_(1, colours + 11, 1.0)
    return torch.cat([found[:, 1:11], found[:, 12:]], dim=1)


def encoder_loss(encoder: Encoder, pixels: Tensor, digits: Tensor, colours: Tensor) -> Tensor:
    """Weighted patch classification plus the multi-label loss of the states that must know the scene."""
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
    """Accuracy on unseen handwriting: digit patches, their colours, background, and the scene at the projector."""
    encoder.eval()
    right: dict[str, list[Tensor]] = defaultdict(list)
    for start in range(0, len(held_out), 100):
        rows = slice(start, start + 100)
        digits, colours = held_out.digits[rows], held_out.colours[rows]
        digit, colour, scene = encoder(encoder.student.pixels(held_out.images[rows]).to(device))
        digit, colour = digit.cpu(), colour.cpu()
        filled = digits > 0
        right["digit"].append((digit.argmax(-1) == digits)[filled])
        right["colour"].append((colour.argmax(-1) == colours)[filled])
        right["background"].append((digit.argmax(-1) == 0)[~filled])
        for logits in scene[:1]:
            right["scene"].append(((logits.cpu() > 0) == (scene_targets(digits, colours) > 0)).flatten())
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
    loss_of = _loss_by_step(encoder, pictures, schedule.batch, seed, device)
    return fit(
        encoder,
        loss_of,
        schedule=schedule,
        checkpoint=checkpoint,
        report=lambda: encoder_accuracy(encoder, held_out, device),
        stop_after=stop_after,
    )


def _loss_by_step(
    encoder: Encoder, pictures: Pictures, size: int, seed: int, device: torch.device
) -> Callable[[int], Tensor]:
    def loss_of(step: int) -> Tensor:
        rows = torch.randint(len(pictures), (size,), generator=generator_of(seed, 1, step))
        pixels = encoder.student.pixels(pictures.images[rows.numpy()]).to(device)
        digits, colours = pictures.digits[rows].to(device), pictures.colours[rows].to(device)
        return encoder_loss(encoder, pixels, digits, colours)

    return loss_of
