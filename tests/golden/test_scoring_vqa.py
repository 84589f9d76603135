"""Open answers are normalised and scored exactly as lmms-eval does for VQAv2 and TextVQA."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lofi.scoring import vqa
from lofi.scoring.answers import Question, Rule

FOLDER = Path(os.environ.get("LOFI_GOLDEN", Path(__file__).parent / "data")) / "scoring"


def cases(name: str) -> list[dict[str, Any]]:
    lines = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines
    return [json.loads(line) for line in lines]


def cleaned(text: str) -> str:
    return vqa.normalise(vqa.clean_up(text))


def test_normal_form() -> None:
    for case in cases("vqa_normalize"):
        text, expected = case["input"]["text"], case["lmms_eval"]
        assert cleaned(text) == expected["full"], case
        assert vqa.without_punctuation(text) == expected["punct_only"], case
        assert vqa.without_articles(text) == expected["digit_article_only"], case


@pytest.mark.parametrize(
    ("family", "rule", "normal_form"),
    [("vqav2_score", vqa.score_vqav2, vqa.normalise), ("textvqa_score", vqa.score_textvqa, cleaned)],
)
def test_soft_accuracy(family: str, rule: Rule, normal_form: Callable[[str], str]) -> None:
    for case in cases(family):
        prediction, annotations = case["input"]["prediction"], case["input"]["answers"]
        got = rule(prediction, Question(annotations[0], annotations))
        assert got.score == pytest.approx(case["lmms_eval"]["exact_match"], abs=1e-9), case
        assert normal_form(prediction) == case["lmms_eval"]["processed"], case
        assert got.parsed == (case["lmms_eval"]["processed"] or None), case
