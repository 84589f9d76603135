"""Letters are read exactly as lmms-eval does for AI2D, SEED-Bench, MMStar, RealWorldQA, and in general."""

import re

from lofi.scoring import mcq
from lofi.scoring.answers import Answer, Question
from lofi.scoring.registry import get_scorer
from tests.golden.cases import cases

LETTERS = ["A", "B", "C", "D"]


def answer(scorer: str, prediction: str, target: str) -> Answer:
    return get_scorer(scorer).rule(prediction, Question(target, [target], option_labels=LETTERS))


def test_ai2d() -> None:
    for case in cases("ai2d"):
        target = case["input"]["answer"]
        got = answer("ai2d", case["input"]["prediction"], target)
        assert got.score == case["lmms_eval"]["exact_match"], case
        assert (got.parsed == target) == got.correct, case
        filtered = case["lmms_eval"]["filtered"]
        if filtered in LETTERS:
            assert got.parsed == filtered, case


def test_seedbench() -> None:
    for case in cases("seedbench"):
        got = answer("seedbench", case["input"]["prediction"], case["input"]["answer"])
        letter = case["lmms_eval"]["pred"].upper()
        assert got.score == case["lmms_eval"]["score"], case
        assert got.parsed == (letter if letter in LETTERS else None), case


def test_the_best_letter_of_a_text() -> None:
    for case in cases("mcq_extract"):
        expected = case["lmms_eval"]["extract_mcq_answer"]
        labels = case["input"]["choices"]
        assert (mcq.letter(case["input"]["prediction"], labels) or "") == expected, case
        for target in labels:
            question = Question(target, [target], option_labels=labels)
            got = get_scorer("mcq_extract").rule(case["input"]["prediction"], question)
            assert (got.parsed or "", got.score) == (expected, float(expected == target)), case


def test_mmstar() -> None:
    for case in cases("mmstar"):
        got = answer("mmstar", case["input"]["prediction"], case["input"]["answer"])
        assert got.score == case["lmms_eval"]["score"], case


def test_realworldqa() -> None:
    for case in cases("realworldqa"):
        target = case["input"]["answer"]
        labels = LETTERS if re.fullmatch("[A-Da-d]", target) else []
        question = Question(target.upper() if labels else target, [target], option_labels=labels)
        got = get_scorer("realworldqa").rule(case["input"]["prediction"], question)
        assert got.score == case["lmms_eval"]["exact_match"], case
