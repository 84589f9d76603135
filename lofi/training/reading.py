"""Running stages 2 and 3: cached features, the schedule of what is asked, and accuracy on unseen handwriting.

Stage 2 always sees all 144 tokens, and what it learns hangs on where each of them stands: numbering the tokens anew
after leaving out a tenth of them was measured to cost 87 points on 80 questions of digits-vqa. Stage 3 leaves out
background, of varying amount, and numbers the rest anew, so that nothing hangs on positions. It never hides a digit.
"""

from collections import defaultdict
from collections.abc import Sequence
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
    thin: bool = False  # leave out some of the background


# First to read words off the picture; once that stands, to compare options with what was read, and to count.
FIRST_LOSSES = {"answer": 1.0, "align": 0.3, "words": 0.5, "options": 0.5}
LATER_LOSSES = FIRST_LOSSES | {"options": 1.0, "known": 0.5, "number": 0.5}
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
        losses=LATER_LOSSES,
    ),
)
LAYOUT_SCHEDULE = Schedule(steps=1000, rate=1e-3, warmup=50, decay=800, report_every=250)
LAYOUT_PHASES = (Phase(until=10**9, mix=PHASES[-1].mix, losses=LATER_LOSSES, thin=True),)


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


def phase_at(step: int, phases: Sequence[Phase] = PHASES) -> Phase:
    """The phase of a step."""
    return next(phase for phase in phases if step < phase.until)


def thinned(seen: tuple[Tensor, Tensor, Tensor], rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Some of the n tokens, the same number of each picture, in raster order; every patch of a digit stays.

    seen: features (b, n, d), and the digit and the colour of each patch (b, n), 0 for background.
    """
    values, digits, colours = seen
    n = values.shape[1]
    fewest = int((digits > 0).sum(1).max())
    k = int(rng.integers(fewest, n + 1))
    draw = torch.from_numpy(rng.random(tuple(digits.shape))) + (digits > 0).cpu()
    kept = draw.topk(k, dim=1).indices.sort(dim=1).values.to(values.device)
    return (
        values.gather(1, kept[..., None].expand(-1, -1, values.shape[2])),
        digits.gather(1, kept),
        colours.gather(1, kept),
    )


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
    phases: Sequence[Phase] = PHASES,
    stage: int = 2,
    stop_after: int | None = None,
) -> int:
    """Run a stage in place; returns the steps done."""
    reader.to(device).train()
    packs = held_out_packs(held_out.pictures, seed)

    def loss_of(step: int) -> Tensor:
        rng = np.random.default_rng([seed, stage, step])
        rows = rng.integers(0, len(features.pictures), BATCH)
        scenes = [features.pictures.scenes[row] for row in rows]
        phase = phase_at(step, phases)
        batch = mixed_pack(scenes, phase.mix, rng, open_count=OPEN_COUNT, letter_count=LETTER_COUNT)
        pictures = features.pictures
        seen = features.values[rows].float(), pictures.digits[rows], pictures.colours[rows]
        values, digits, colours = (each.to(device) for each in (thinned(seen, rng) if phase.thin else seen))
        losses = reader_loss(reader, values, batch.to(device), digits, colours)
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
