"""Texts are compared exactly as each harness does for GQA, ChartQA, DocVQA and OCRBench."""

from typing import Any

import pytest

from lofi.scoring.answers import Answer, Question
from lofi.scoring.registry import get_scorer
from tests.golden.cases import cases


def answer(scorer: str, case: dict[str, Any], targets: list[str]) -> Answer:
    given = case["input"]
    question = Question(targets[0], targets, category=given.get("dataset"), l2_category=given.get("question_type"))
    return get_scorer(scorer).rule(given["prediction"], question)


@pytest.mark.parametrize(
    ("scorer", "harness", "field"),
    [
        ("gqa", "lmms_eval", "exact_match"),
        ("gqa_llava", "llava_official", "exact_match"),
        ("gqa_vlmevalkit", "vlmevalkit", "score"),
    ],
)
def test_gqa(scorer: str, harness: str, field: str) -> None:
    for case in cases("gqa_exact_match"):
        assert answer(scorer, case, [case["input"]["answer"]]).score == case[harness][field], case


def test_chartqa() -> None:
    for case in cases("chartqa"):
        targets = [case["input"]["target"]]
        got = answer("chartqa", case, targets)
        assert got.correct == case["lmms_eval"]["relaxed_correctness"], case
        assert got.score == case["lmms_eval"]["task_score"], case
        assert answer("chartqa_vlmevalkit", case, targets).score == case["vlmevalkit"]["score"], case


@pytest.mark.parametrize(("scorer", "harness"), [("anls", "lmms_eval"), ("anls_vlmevalkit", "vlmevalkit")])
def test_docvqa(scorer: str, harness: str) -> None:
    for case in cases("docvqa_anls"):
        got = answer(scorer, case, case["input"]["answers"])
        assert got.score == pytest.approx(case[harness]["anls"], abs=1e-9), case


def test_ocrbench() -> None:
    for case in cases("ocrbench"):
        accepted = case["input"]["answer"]
        targets = accepted if isinstance(accepted, list) else [accepted]
        assert answer("ocrbench", case, targets).score == case["lmms_eval"]["score"], case
        if "vlmevalkit" in case:
            assert answer("ocrbench_vlmevalkit", case, targets).score == case["vlmevalkit"]["score"], case
