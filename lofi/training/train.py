"""The rule that makes `digits-llava`: two stages from a seed, each going on from its last checkpoint if killed."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from transformers import CLIPVisionModel, LlavaConfig, LlavaForConditionalGeneration

from lofi.training import encoder as stage1
from lofi.training import reading as stage2
from lofi.training.encoder import Encoder, train_encoder
from lofi.training.language import Reader
from lofi.training.loop import Schedule
from lofi.training.measure import Accuracy, measure
from lofi.training.model import build_config, build_model, build_processor
from lofi.training.pictures import WARPS, Pictures, draw_pictures
from lofi.training.reading import cache_features, train_reader


@dataclass(frozen=True)
class Plan:
    """How much of everything; the defaults made the weights that lofi ships, tests use less."""

    config: LlavaConfig
    encoder: Schedule = stage1.SCHEDULE
    reader: Schedule = stage2.SCHEDULE
    layout: Schedule = stage2.LAYOUT_SCHEDULE
    encoder_scenes: int = 16_000
    reader_scenes: int = 12_000
    held_out_scenes: int = 300
    measured_images: int = 300
    warps: int = WARPS


def train(out: Path, work: Path, *, seed: int = 0, device: str = "auto", plan: Plan | None = None) -> None:
    """Train the embedded model into `out`, with checkpoints in `work`; run it again after a kill and it goes on."""
    plan = plan or Plan(config=build_config())
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    work.mkdir(parents=True, exist_ok=True)
    held_out = draw_pictures(seed + 1, plan.held_out_scenes, split="evaluation")
    with torch.random.fork_rng():
        encoder = _encoder(plan, work, held_out, seed, where)
        model = _language_model(plan, encoder, work, held_out, seed, where)
    save_model(model, out)
    accuracy = measure(out, n_images=plan.measured_images, seed=0, device=str(where))
    (out / "README.md").write_text(model_card(accuracy, plan, seed), encoding="utf-8")


def _encoder(plan: Plan, work: Path, held_out: Pictures, seed: int, device: torch.device) -> Encoder:
    """Stage 1. Other scenes than in stage 2, so that stage 2 meets features that were not fitted to its pictures."""
    torch.manual_seed(seed)
    encoder = Encoder(CLIPVisionModel(plan.config.vision_config))
    pictures = draw_pictures(seed, plan.encoder_scenes, split="train", warps=plan.warps)
    checkpoint = work / "encoder.pt"
    train_encoder(encoder, pictures, held_out, checkpoint=checkpoint, seed=seed, device=device, schedule=plan.encoder)
    return encoder


def _language_model(
    plan: Plan, encoder: Encoder, work: Path, held_out: Pictures, seed: int, device: torch.device
) -> LlavaForConditionalGeneration:
    """Stages 2 and 3, and the whole model put together."""
    torch.manual_seed(seed)
    model = build_model(plan.config)
    model.model.vision_tower.load_state_dict(encoder.tower.state_dict())
    model.model.vision_tower.requires_grad_(False)
    torch.manual_seed(seed + 1)
    reader = Reader(model)
    pictures = draw_pictures(seed + 2, plan.reader_scenes, split="train", warps=plan.warps)
    tower = model.model.vision_tower
    features, unseen = cache_features(tower, pictures, device), cache_features(tower, held_out, device)
    course = partial(train_reader, reader, features, unseen, seed=seed, device=device)
    course(checkpoint=work / "reader.pt", schedule=plan.reader)
    course(checkpoint=work / "layout.pt", schedule=plan.layout, phases=stage2.LAYOUT_PHASES, stage=3)
    return model


def save_model(model: LlavaForConditionalGeneration, out: Path) -> None:
    """Write the model with float16 weights that load as float32, and everything its processor needs."""
    model = model.cpu().half().eval()
    model.generation_config.do_sample = False
    model.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)  # the hub client leaves it readable by its owner alone
    build_processor().save_pretrained(out)
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
# digits-llava

A LLaVA of 1.7 million parameters that answers questions about handwritten digits in colour: CLIP vision tower
(96 x 96 pixels, 144 visual tokens, 4 layers of width 96), two-layer projector, Llama (6 layers of width 128),
word-level vocabulary. It exists so that lofi can be tried and tested in minutes on a laptop, by the code that a 7B
model goes through.

Made by `lofi train-digits`, seed {seed}: {encoder} steps of patch classification for the encoder, then {reader} steps
for projector and language model behind the frozen encoder, then {layout} steps in which a varying part of the
background is left out, so that answers do not hang on the number of visual tokens. The digits are the UCI ML
hand-written digits as scikit-learn ships them (`load_digits`, CC BY 4.0): the first 1,397 for training, the last 400
for the accuracies below.

Accuracy with all visual tokens, {images} images a dataset, greedy generation:

| dataset | accuracy | parts |
| --- | --- | --- |
{table}

Weights are stored as float16 and load as float32. It knows these scenes and these questions and nothing else.
"""
