"""The rule that makes an embedded model: three stages from a seed, each going on from its last checkpoint if killed."""

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lofi.training import encoder as stage1
from lofi.training import reading as stage2
from lofi.training.encoder import Encoder, train_encoder
from lofi.training.language import Reader
from lofi.training.llava import LLAVA
from lofi.training.loop import Schedule
from lofi.training.measure import Accuracy, measure
from lofi.training.pictures import WARPS, Pictures, draw_pictures
from lofi.training.qwen import QWEN
from lofi.training.reading import cache_features, train_reader
from lofi.training.student import Student


@dataclass(frozen=True)
class Plan:
    """Who learns, and how much of everything; tests use less."""

    student: Student
    config: Any
    encoder: Schedule = stage1.SCHEDULE
    reader: Schedule = stage2.SCHEDULE
    layout: Schedule = stage2.LAYOUT_SCHEDULE
    encoder_scenes: int = 16_000
    reader_scenes: int = 12_000
    held_out_scenes: int = 300
    measured_images: int = 300
    warps: int = WARPS


# The plans that made the weights that lofi ships.
PLANS = {
    LLAVA.name: Plan(LLAVA, LLAVA.build_config()),
    # Its tower reads four times as many patches as LLaVA's: half the pictures a step are enough, and take as long.
    # Its visual tokens keep their places: left-out background was measured to cost nothing even before the last stage.
    QWEN.name: Plan(
        QWEN,
        QWEN.build_config(),
        encoder=replace(stage1.SCHEDULE, batch=16),
        reader=replace(stage2.SCHEDULE, steps=2900, decay=500),
        layout=replace(stage2.LAYOUT_SCHEDULE, steps=400, decay=320),
    ),
}


def train(plan: Plan, out: Path, work: Path, *, seed: int = 0, device: str = "auto") -> None:
    """Train an embedded model into `out`, with checkpoints in `work`; run it again after a kill and it goes on."""
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    work.mkdir(parents=True, exist_ok=True)
    held_out = draw_pictures(seed + 1, plan.held_out_scenes, split="evaluation")
    with torch.random.fork_rng():
        encoder = _encoder(plan, work, held_out, seed, where)
        model = _language_model(plan, encoder, work, held_out, seed, where)
    save_model(plan.student, model, out)
    accuracy = measure(out, n_images=plan.measured_images, seed=0, device=str(where))
    (out / "README.md").write_text(model_card(accuracy, plan, seed), encoding="utf-8")


def _encoder(plan: Plan, work: Path, held_out: Pictures, seed: int, device: torch.device) -> Encoder:
    """Stage 1. Other scenes than in stage 2, so that stage 2 meets features that were not fitted to its pictures."""
    torch.manual_seed(seed)
    encoder = Encoder(plan.student, plan.config)
    pictures = draw_pictures(seed, plan.encoder_scenes, split="train", warps=plan.warps)
    checkpoint = work / "encoder.safetensors"
    train_encoder(encoder, pictures, held_out, checkpoint=checkpoint, seed=seed, device=device, schedule=plan.encoder)
    return encoder


def _language_model(
    plan: Plan, encoder: Encoder, work: Path, held_out: Pictures, seed: int, device: torch.device
) -> Any:
    """Stages 2 and 3, and the whole model put together."""
    student = plan.student
    torch.manual_seed(seed)
    model = student.build_model(plan.config)
    tower = student.tower_of(model)
    tower.load_state_dict(encoder.tower.state_dict())
    tower.requires_grad_(False)
    student.projector_of(model).requires_grad_(True)  # which may be a part of the tower
    torch.manual_seed(seed + 1)
    reader = Reader(student, model)
    pictures = draw_pictures(seed + 2, plan.reader_scenes, split="train", warps=plan.warps)
    features, unseen = (cache_features(student, tower, each, device) for each in (pictures, held_out))
    course = partial(train_reader, reader, features, unseen, seed=seed, device=device)
    course(checkpoint=work / "reader.safetensors", schedule=plan.reader)
    course(checkpoint=work / "layout.safetensors", schedule=plan.layout, phases=stage2.LAYOUT_PHASES, stage=3)
    return model


def save_model(student: Student, model: Any, out: Path) -> None:
    """Write the model with float16 weights that load as float32, and everything its processor needs."""
    model = model.cpu().half().eval()
    model.generation_config.do_sample = False
    model.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)  # the hub client leaves it readable by its owner alone
    student.save_processor(out)
    path = out / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for part in (config, config["text_config"], config["vision_config"]):
        part["dtype"] = "float32"  # half the bytes on disk, but CPUs compute in float32
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def model_card(accuracy: Accuracy, plan: Plan, seed: int) -> str:
    """The card that travels with the weights."""
    lines = [
        f"| {name} | {scores['all']:.3f} | "
        + ", ".join(f"{skill} {value:.3f}" for skill, value in scores.items() if skill != "all")
        + " |"
        for name, scores in accuracy.items()
    ]
    return CARD.format(
        name=plan.student.name,
        portrait=plan.student.portrait,
        encoder=plan.encoder.steps,
        reader=plan.reader.steps,
        layout=plan.layout.steps,
        seed=seed,
        images=plan.measured_images,
        table="\n".join(lines),
    )


CARD = """---
license: cc-by-4.0
library_name: transformers
pipeline_tag: image-text-to-text
---
# {name}

{portrait}
It exists so that lofi can be tried and tested in minutes on a laptop, by the code that a 7B model goes through.

Made by `lofi train-digits --model {name}`, seed {seed}: {encoder} steps of patch classification for the
encoder, then {reader} steps for projector and language model behind the frozen encoder, then {layout} steps in
which a varying part of the background is left out, so that answers do not hang on the number of visual tokens. The
digits are the UCI ML hand-written digits as scikit-learn ships them (`load_digits`, CC BY 4.0): the first 1,397 for
training, the last 400 for the accuracies below.

Accuracy with all visual tokens, {images} images a dataset, greedy generation:

| dataset | accuracy | parts |
| --- | --- | --- |
{table}

Weights are stored as float16 and load as float32. It knows these scenes and these questions and nothing else.
"""
