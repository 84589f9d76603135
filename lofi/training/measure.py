"""Accuracy of a saved model by the ordinary road: auto classes, chat template, processor, generate."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm
from transformers import AutoModelForImageTextToText

from lofi.data.digits.folder import LAYOUTS, asked_scenes
from lofi.data.digits.questions import Question
from lofi.data.digits.scenes import draw
from lofi.models.processor import load_processor

BATCH = 32
Accuracy = dict[str, dict[str, float]]  # dataset to skill to accuracy; the key "all" is the whole dataset


def measure(directory: Path, *, n_images: int = 300, seed: int = 0, device: str = "cpu") -> Accuracy:
    """Accuracy on each digit dataset, in all and by skill (POPE: by category)."""
    processor = load_processor(directory)
    model = AutoModelForImageTextToText.from_pretrained(directory, dtype=torch.float32).to(device).eval()
    result: Accuracy = {}
    for name in LAYOUTS:
        asked = [
            (Image.fromarray(draw(scene)), question)
            for scene, questions in asked_scenes(name, n_images=n_images, seed=seed)
            for question in questions
        ]
        hits: dict[str, list[bool]] = defaultdict(list)
        batches = [asked[start : start + BATCH] for start in range(0, len(asked), BATCH)]
        for batch in tqdm(batches, desc=f"measure {name}", mininterval=5):
            for (_, question), answer in zip(batch, _answers(processor, model, batch), strict=True):
                right = answer.strip().lower() == question.answer.lower()
                hits["all"].append(right)
                hits[question.category or question.skill].append(right)
        result[name] = {skill: float(np.mean(values)) for skill, values in sorted(hits.items())}
    return result


@torch.no_grad()
def _answers(processor, model, batch: list[tuple[Image.Image, Question]]) -> list[str]:  # type: ignore[no-untyped-def]
    prompts = [
        processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question.prompt}]}],
            add_generation_prompt=True,
        )
        for _, question in batch
    ]
    inputs = processor(text=prompts, images=[image for image, _ in batch], return_tensors="pt", padding=True)
    inputs = inputs.to(model.device)
    written = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    answers: list[str] = processor.batch_decode(written[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return answers
