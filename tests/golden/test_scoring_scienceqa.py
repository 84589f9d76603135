"""ScienceQA letters are read exactly as lmms-eval does."""

import json
import os
from pathlib import Path

from lofi.scoring import scienceqa
from lofi.scoring.answers import Question

FOLDER = Path(os.environ.get("LOFI_GOLDEN", Path(__file__).parent / "data")) / "scoring"
LETTERS = "ABCDEFGHIJ"


def test_answers() -> None:
    lines = (FOLDER / "scienceqa.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines
    for case in map(json.loads, lines):
        given = case["input"]
        labels = LETTERS[: given["n_choices"]]
        target = labels[given["answer_index"]]
        got = scienceqa.score(given["prediction"], Question(target, [target], option_labels=labels))
        assert got.score == case["lmms_eval"]["exact_match"], case
        assert (got.parsed == target) == got.correct, case
        assert (got.parsed is None) == (got.status != "ok"), case
