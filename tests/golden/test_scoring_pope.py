"""POPE answers are read and scored exactly as lmms-eval does."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lofi.scoring import pope
from lofi.scoring.answers import Answer, Question

FOLDER = Path(os.environ.get("LOFI_GOLDEN", Path(__file__).parent / "data")) / "scoring"


def cases(name: str) -> list[dict[str, Any]]:
    lines = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines
    return [json.loads(line) for line in lines]


def answer(prediction: str, target: str) -> Answer:
    return pope.score(prediction, Question(target, [target], option_labels=["yes", "no"]))


def test_answers() -> None:
    for case in cases("yes_no"):
        expected = case["lmms_eval"]["pope"]
        word = expected["prediction"]
        got = answer(case["input"]["prediction"], case["input"]["answer"])
        assert got.score == expected["score"], case
        assert got.parsed == (word if word in ("yes", "no") else None), case
        assert got.status == ("ok" if got.parsed else "unparsed"), case


def test_rates() -> None:
    for case in cases("pope_aggregate"):
        records = case["input"]["records"]
        got = pope.rates([(answer(each["prediction"], each["answer"]).parsed, each["answer"]) for each in records])
        expected = case["lmms_eval"]
        assert got.accuracy == pytest.approx(expected["accuracy"], abs=1e-9), case["id"]
        assert got.precision == pytest.approx(expected["precision"], abs=1e-9), case["id"]
        assert got.recall == pytest.approx(expected["recall"], abs=1e-9), case["id"]
        assert got.f1 == pytest.approx(expected["f1_score"], abs=1e-9), case["id"]
