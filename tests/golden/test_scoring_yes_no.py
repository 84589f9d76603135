"""Yes and no are read exactly as each harness does."""

from typing import Any

from lofi.scoring.answers import Answer, Question
from lofi.scoring.registry import get_scorer
from tests.golden.cases import cases


def answer(case: dict[str, Any], scorer: str) -> Answer:
    target = case["input"]["answer"]
    question = Question(target, [target], option_labels=["yes", "no"])
    return get_scorer(scorer).rule(case["input"]["prediction"], question)


def test_pope() -> None:
    for case in cases("yes_no"):
        expected = case["lmms_eval"]["pope"]
        word = expected["prediction"]
        got = answer(case, "pope")
        assert got.score == expected["score"], case
        assert got.parsed == (word if word in ("yes", "no") else None), case


def test_pope_in_llava() -> None:
    for case in cases("yes_no"):
        expected = case["llava_official"]
        got = answer(case, "pope_llava")
        assert (got.parsed, got.score) == (expected["pope_label"], expected["score"]), case


def test_mme() -> None:
    for case in cases("yes_no"):
        expected = case["lmms_eval"]["mme"]
        got = answer(case, "mme")
        assert (got.parsed or "other", got.score) == (expected["parsed"], expected["score"]), case


def test_hallusionbench_without_a_judge() -> None:
    for case in cases("yes_no"):
        expected = {"1": "yes", "0": "no"}[case["lmms_eval"]["hallusion_intern_answer"]]
        got = answer(case, "hallusionbench")
        assert (got.parsed, got.score) == (expected, float(expected == case["input"]["answer"])), case


def test_vlmevalkit() -> None:
    for case in cases("yes_no"):
        expected = case["vlmevalkit"]
        for scorer in ("yesno_vlmevalkit", "pope_vlmevalkit"):
            got = answer(case, scorer)
            assert (got.parsed or "unknown") == expected["YOrN_Extraction"].lower(), case
            assert got.score == expected["score"], case
