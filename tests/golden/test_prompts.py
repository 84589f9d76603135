"""Prompts are, character by character, those of lmms-eval."""

import json
import os
from pathlib import Path

from lofi.data.prompts import render
from lofi.data.registry import dataset_names, get_card

FOLDER = Path(os.environ.get("LOFI_GOLDEN", Path(__file__).parent / "data")) / "scoring"
TWINS = {"pope": "digits-pope", "scienceqa_img": "digits-sqa", "vqav2_val": "digits-vqa"}


def test_prompts() -> None:
    lines = (FOLDER / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    compared = set()
    for case in map(json.loads, lines):
        task, row = case["input"]["task"], case["input"]["doc"]
        if task not in dataset_names():
            continue
        compared.add(task)
        for name in {task, TWINS.get(task, task)}:
            assert render(get_card(name), "lmms_eval", row) == case["lmms_eval"]["prompt"], (name, case)
    assert compared >= set(TWINS)
