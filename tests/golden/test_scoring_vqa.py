"""Open answers are normalised and scored exactly as the harnesses do for VQAv2, TextVQA and VizWiz."""

from collections.abc import Callable
from typing import Any

import pytest

from lofi.scoring import normal, vqa
from lofi.scoring.answers import Answer, Question, Rule
from tests.golden.cases import cases


def cleaned(text: str) -> str:
    return normal.normalise(normal.clean_up(text))


def answer(case: dict[str, Any], rule: Rule) -> Answer:
    annotations = case["input"]["answers"]
    return rule(case["input"]["prediction"], Question(annotations[0], annotations))


def test_normal_form() -> None:
    for case in cases("vqa_normalize"):
        text, expected = case["input"]["text"], case["lmms_eval"]
        assert cleaned(text) == expected["full"] == case["llava_m4c"]["full"], case
        assert normal.without_punctuation(text) == expected["punct_only"], case
        assert normal.without_articles(text) == expected["digit_article_only"], case
        assert normal.normalise(text, normal.VLMEVALKIT) == case["vlmevalkit"]["process_answer"], case


@pytest.mark.parametrize(
    ("family", "rule", "normal_form"),
    [
        ("vqav2_score", vqa.score_vqav2, normal.normalise),
        ("textvqa_score", vqa.score_textvqa, cleaned),
        ("vizwiz_score", vqa.score_textvqa, cleaned),
    ],
)
def test_soft_accuracy(family: str, rule: Rule, normal_form: Callable[[str], str]) -> None:
    for case in cases(family):
        expected = case["lmms_eval"]
        got = answer(case, rule)
        assert got.score == pytest.approx(expected["exact_match"], abs=1e-9), case
        assert normal_form(case["input"]["prediction"]) == expected["processed"], case
        assert got.parsed == (expected["processed"] or None), case


def test_llava_scores_textvqa_as_lmms_eval_does() -> None:
    for case in cases("textvqa_score"):
        got = answer(case, vqa.score_textvqa)
        assert got.score == pytest.approx(case["llava_m4c"]["accuracy"], abs=1e-9), case


def test_textvqa_in_vlmevalkit() -> None:
    for case in cases("textvqa_score"):
        expected = case["vlmevalkit"]
        got = answer(case, vqa.score_vlmevalkit)
        assert got.score == pytest.approx(expected["score"], abs=1e-9), case
        assert got.parsed == (expected["pred"] or None), case
