"""Prompts are, character by character, those of lmms-eval; those of the other styles are written out here."""

from typing import Any

import pytest

from lofi.data.prompts import render
from lofi.data.registry import dataset_names, get_card
from tests.golden.cases import cases

# lmms-eval's names of tasks, where they are not the dataset's
DATASETS = {
    "vizwiz_vqa_val": "vizwiz_val",
    "hallusion_bench_image": "hallusionbench",
    "seedbench": "seedbench_image",
}
TWINS = {"pope": "digits-pope", "scienceqa_img": "digits-sqa", "vqav2_val": "digits-vqa"}
WORD = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."
SELECT = "Please select the correct answer from the options above. \n"
UNANSWERABLE = "\nWhen the provided information is insufficient, respond with 'Unanswerable'."
OPTIONS = ["a dog", "a cat"]
QUESTION = " What is IT? "
ROWS: dict[str, dict[str, Any]] = {
    "scienceqa_img": {"question": QUESTION, "choices": OPTIONS, "hint": "Look."},
    "textvqa_val_ocr": {"question": QUESTION, "ocr_tokens": ["EXIT", "24"]},
    "mme": {"question": f"{QUESTION}Please answer yes or no."},
    "mmbench_en_dev": {"question": QUESTION, "hint": "Look.", "A": "a dog", "B": "a cat", "C": "nan", "D": "nan"},
    "mmbench_cn_dev": {"question": QUESTION, "hint": "nan", "A": "a dog", "B": "a cat", "C": "nan", "D": "nan"},
    "seedbench_image": {"question": QUESTION, **dict(zip(("choice_a", "choice_b"), OPTIONS, strict=True))}
    | {"choice_c": "3", "choice_d": "4"},
    "ai2d": {"question": QUESTION, "options": OPTIONS},
}
OFFICIAL = {
    "gqa": QUESTION + WORD,
    "vqav2_val": QUESTION + WORD,
    "vizwiz_val": QUESTION + UNANSWERABLE + WORD,
    "scienceqa_img": f"Context: Look.\n{QUESTION}\nA. a dog\nB. a cat{LETTER}",
    "textvqa_val_ocr": f"{QUESTION}\nReference OCR token: EXIT, 24{WORD}",
    "pope": "What is IT?" + WORD,
    "mme": "What is IT?" + WORD,
    "mmbench_en_dev": f"Look.\n{QUESTION}\nA. a dog\nB. a cat{LETTER}",
    "mmbench_cn_dev": f"{QUESTION}\nA. a dog\nB. a cat\n请直接回答选项字母。",
    "seedbench_image": f"{QUESTION}\nA. a dog\nB. a cat\nC. 3\nD. 4{LETTER}",
}
VLMEVALKIT = {
    "gqa": QUESTION + WORD,
    "vizwiz_val": QUESTION,
    "scienceqa_img": f"Hint: Look.\nQuestion: {QUESTION}\nOptions:\nA. a dog\nB. a cat\n{SELECT}",
    "textvqa_val": QUESTION + WORD,
    "pope": QUESTION,
    "mme": f"{QUESTION}Please answer yes or no.",
    "mmbench_en_dev": f"Hint: Look.\nQuestion: {QUESTION}\nOptions:\nA. a dog\nB. a cat\n{SELECT}",
    "mmbench_cn_dev": f"Question: {QUESTION}\nOptions:\nA. a dog\nB. a cat\n{SELECT}",
    "seedbench_image": f"Question: {QUESTION}\nOptions:\nA. a dog\nB. a cat\nC. 3\nD. 4\n{SELECT}",
    "ai2d": f"Question: {QUESTION}\nOptions:\nA. a dog\nB. a cat\n{SELECT}",
    "chartqa": QUESTION + WORD,
    "docvqa_val": QUESTION + WORD,
    "ocrbench": QUESTION,
    "hallusionbench": QUESTION,
}
STYLES = {"llava_official": OFFICIAL, "vlmevalkit": VLMEVALKIT}


def test_prompts_of_lmms_eval() -> None:
    compared = set()
    for case in cases("prompts"):
        task, row = case["input"]["task"], case["input"]["doc"]
        name = DATASETS.get(task, task)
        expected = {name: case["lmms_eval"]["prompt"]}
        if name in TWINS:
            expected[TWINS[name]] = case["lmms_eval"]["prompt"]
        if "prompt_with_ocr" in case["lmms_eval"]:
            expected[f"{name}_ocr"] = case["lmms_eval"]["prompt_with_ocr"]
        for each, prompt in expected.items():
            assert render(get_card(each), "lmms_eval", row) == prompt, (each, case)
        compared |= expected.keys()
    assert compared == set(dataset_names())


@pytest.mark.parametrize("style", STYLES)
def test_prompts_of_other_styles(style: str) -> None:
    named = {name for name in dataset_names() if style in get_card(name).prompts} - set(TWINS.values())
    assert named == STYLES[style].keys()
    for name, prompt in STYLES[style].items():
        row = ROWS.get(name, {"question": QUESTION})
        assert render(get_card(name), style, row) == prompt, name
