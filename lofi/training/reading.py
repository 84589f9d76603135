"""Running stages 2 and 3: cached features, the schedule of what is asked, and accuracy on unseen handwriting.

Stage 2 always sees all 144 tokens, and what it learns hangs on where each of them stands: numbering the tokens anew
after leaving out a tenth of them was measured to cost 87 points on 80 questions of digits-vqa. Stage 3 leaves out
background, of varying amount, and never hides a digit. The student says how the rest is numbered: anew, so that
nothing hangs on positions, or by the places where the tokens stood.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from lofi.data.digits.questions import SKILLS
from lofi.training.language import Mix, Reader, Seen, mixed_pack, reader_loss, right_answers
from lofi.training.loop import Schedule, fit
from lofi.training.packs import IGNORE, LETTER_WIDTH, OPEN_WIDTH, Pack, build_pack, letter_question, open_question
from lofi.training.pictures import Pictures
from lofi.training.student import Student
from lofi.training.words import Dialect

OPEN_COUNT, LETTER_COUNT = 8, 6
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
    values: Tensor  # (b, n, width) float16

    def at(self, rows: slice | NDArray[np.int64]) -> Seen:
        """The features of some pictures, with their labels and places."""
        digits, colours = self.pictures.digits[rows], self.pictures.colours[rows]
        places = torch.arange(digits.shape[1]).expand_as(digits)
        return Seen(features=self.values[rows].float(), digits=digits, colours=colours, places=places)


@torch.no_grad()
def cache_features(student: Student, tower: nn.Module, pictures: Pictures, device: torch.device) -> Features:
    """What the projector reads, for all pictures."""
    tower.to(device).eval()
    parts = []
    for start in tqdm(range(0, len(pictures), 100), desc="cache features", mininterval=5):
        pixels = student.pixels(pictures.images[start : start + 100]).to(device)
        parts.append(student.look(tower, pixels).patches.half().cpu())
    return Features(pictures=pictures, values=torch.cat(parts))


def phase_at(step: int, phases: Sequence[Phase] = PHASES) -> Phase:
    """The phase of a step."""
    return next(phase for phase in phases if step < phase.until)


def thinned(seen: Seen, rng: np.random.Generator) -> Seen:
    """Some of the n tokens, the same number of each picture, in raster order; every patch of a digit stays."""
    rows, n = seen.digits.shape
    filled = seen.digits > 0
    k = int(rng.integers(int(filled.sum(1).max()), n + 1))
    draw = torch.from_numpy(rng.random((rows, n))) + filled
    kept = draw.topk(k, dim=1).indices.sort(dim=1).values
    return Seen(
        features=seen.features.gather(1, kept[..., None].expand(-1, -1, seen.features.shape[2])),
        digits=seen.digits.gather(1, kept),
        colours=seen.colours.gather(1, kept),
        places=seen.places.gather(1, kept),
    )


def held_out_packs(dialect: Dialect, pictures: Pictures, seed: int) -> list[tuple[slice, Pack]]:
    """Fixed packs over unseen handwriting: every open skill twice, every lettered skill once per scene."""
    rng = np.random.default_rng([seed, 5])
    packs = []
    for start in range(0, len(pictures), 25):
        rows = slice(start, start + 25)
        scenes = pictures.scenes[rows]
        opened = [[open_question(s, scene, rng) for s in OPEN_SKILLS * 2] for scene in scenes]
        lettered = [[letter_question(s, scene, rng) for s in SKILLS] for scene in scenes]
        packs.append((rows, build_pack(dialect, scenes, opened, OPEN_WIDTH)))
        packs.append((rows, build_pack(dialect, scenes, lettered, LETTER_WIDTH)))
    return packs


def accuracy(
    reader: Reader, features: Features, packs: list[tuple[slice, Pack]], device: torch.device
) -> dict[str, float]:
    """Accuracy by skill; lettered skills end in `?`."""
    reader.eval()
    right: dict[str, list[bool]] = defaultdict(list)
    for rows, batch in packs:
        hits = right_answers(reader, features.at(rows).to(device), batch.to(device)).tolist()
        mark = "?" if (batch.options != IGNORE).any() else ""
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
    dialect = reader.student.dialect
    packs = held_out_packs(dialect, held_out.pictures, seed)

    def loss_of(step: int) -> Tensor:
        rng = np.random.default_rng([seed, stage, step])
        rows = rng.integers(0, len(features.pictures), schedule.batch)
        scenes = [features.pictures.scenes[row] for row in rows]
        phase = phase_at(step, phases)
        batch = mixed_pack(dialect, scenes, phase.mix, rng, open_count=OPEN_COUNT, letter_count=LETTER_COUNT)
        seen = features.at(rows)
        losses = reader_loss(reader, (thinned(seen, rng) if phase.thin else seen).to(device), batch.to(device))
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
