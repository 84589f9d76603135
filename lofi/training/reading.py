"""Running stage 2: cached features, the schedule of what is asked, and accuracy on unseen handwriting."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPVisionModel

from lofi.data.digits.questions import SKILLS
from lofi.training.encoder import pixels_of
from lofi.training.language import Mix, Reader, mixed_pack, reader_loss, right_answers
from lofi.training.loop import Schedule, fit
from lofi.training.packs import LETTER_WIDTH, OPEN_WIDTH, Pack, build_pack, letter_question, open_question
from lofi.training.pictures import Pictures

BATCH, OPEN_COUNT, LETTER_COUNT = 8, 8, 6
OPEN_SKILLS = ("existence", "color", "reading", "count")
SCHEDULE = Schedule(steps=3600, rate=2e-3, warmup=200, decay=1200, report_every=250)


@dataclass(frozen=True)
class Phase:
    """What is asked and which losses count, up to a step."""

    until: int
    mix: Mix
    losses: dict[str, float]


# First to read words off the picture; once that stands, to compare options with what was read, and to count.
FIRST_LOSSES = {"answer": 1.0, "align": 0.3, "words": 0.5, "options": 0.5}
PHASES = (
    Phase(
        until=1400,
        mix=Mix(
            open={"existence": 0.35, "color": 0.2, "reading": 0.2, "count": 0.1, "caption": 0.15},
            letters={"presence": 0.25, "color": 0.25, "reading": 0.2, "count": 0.1, "lookup": 0.2},
            letter_share=0.35,
        ),
        losses=FIRST_LOSSES,
    ),
    Phase(
        until=10**9,
        mix=Mix(
            open={"existence": 0.3, "color": 0.15, "reading": 0.2, "count": 0.3, "caption": 0.05},
            letters={"presence": 0.15, "color": 0.3, "reading": 0.3, "count": 0.15, "lookup": 0.1},
            letter_share=0.6,
        ),
        losses=FIRST_LOSSES | {"options": 1.0, "known": 0.5, "number": 0.5},
    ),
)


@dataclass(frozen=True)
class Features:
    """Frozen encoder features with the scenes and patch labels they belong to."""

    pictures: Pictures
    values: Tensor  # (b, n, vision width) float16


@torch.no_grad()
def cache_features(tower: CLIPVisionModel, pictures: Pictures, device: torch.device) -> Features:
    """What the projector reads, for all pictures: hidden state -2 without CLS."""
    tower.to(device).eval()
    parts = []
    for start in tqdm(range(0, len(pictures), 100), desc="cache features", mininterval=5):
        pixels = pixels_of(pictures.images[start : start + 100]).to(device)
        states = tower(pixel_values=pixels, output_hidden_states=True).hidden_states
        parts.append(states[-2][:, 1:].half().cpu())
    return Features(pictures=pictures, values=torch.cat(parts))


def phase_at(step: int) -> Phase:
    """The phase of a step."""
    return next(phase for phase in PHASES if step < phase.until)


def held_out_packs(pictures: Pictures, seed: int) -> list[tuple[slice, Pack]]:
    """Fixed packs over unseen handwriting: every open skill twice, every lettered skill once per scene."""
    rng = np.random.default_rng([seed, 5])
    packs = []
    for start in range(0, len(pictures), 25):
        rows = slice(start, start + 25)
        scenes = pictures.scenes[rows]
        opened = [[open_question(s, scene, rng) for s in OPEN_SKILLS * 2] for scene in scenes]
        lettered = [[letter_question(s, scene, rng) for s in SKILLS] for scene in scenes]
        packs += [(rows, build_pack(scenes, opened, OPEN_WIDTH)), (rows, build_pack(scenes, lettered, LETTER_WIDTH))]
    return packs


def accuracy(
    reader: Reader, features: Features, packs: list[tuple[slice, Pack]], device: torch.device
) -> dict[str, float]:
    """Accuracy by skill; lettered skills end in `?`."""
    reader.eval()
    right: dict[str, list[bool]] = defaultdict(list)
    for rows, batch in packs:
        hits = right_answers(reader, features.values[rows].float().to(device), batch.to(device)).tolist()
        mark = "?" if batch.ids.shape[2] == LETTER_WIDTH else ""
        for asked, answered in zip(batch.skills, hits, strict=True):
            for skill, hit in zip(asked, answered, strict=True):
                right[skill + mark].append(hit)
    reader.train()
    return {skill: float(np.mean(hits)) for skill, hits in sorted(right.items())}


def train_reader(
    reader: Reader,
    features: Features,
    held_out: Features,
    *,
    checkpoint: Path,
    seed: int,
    device: torch.device,
    schedule: Schedule = SCHEDULE,
    stop_after: int | None = None,
) -> int:
    """Stage 2 in place; returns the steps done."""
    reader.to(device).train()
    packs = held_out_packs(held_out.pictures, seed)

    def loss_of(step: int) -> Tensor:
        rng = np.random.default_rng([seed, 2, step])
        rows = rng.integers(0, len(features.pictures), BATCH)
        scenes = [features.pictures.scenes[row] for row in rows]
        phase = phase_at(step)
        batch = mixed_pack(scenes, phase.mix, rng, open_count=OPEN_COUNT, letter_count=LETTER_COUNT)
        labels = (features.pictures.digits[rows].to(device), features.pictures.colours[rows].to(device))
        losses = reader_loss(reader, features.values[rows].float().to(device), batch.to(device), *labels)
        # A loss that does not count yet is left out, not weighted 0: its head must stay as it was made.
        counted = [phase.losses[name] * loss for name, loss in losses.items() if name in phase.losses]
        return torch.stack(counted).sum()

    return fit(
        reader,
        loss_of,
        schedule=schedule,
        checkpoint=checkpoint,
        report=lambda: accuracy(reader, held_out, packs, device),
        stop_after=stop_after,
    )
