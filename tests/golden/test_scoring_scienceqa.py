"""ScienceQA letters are read exactly as lmms-eval does."""

from lofi.scoring import scienceqa
from lofi.scoring.answers import Question
from tests.golden.cases import cases

LETTERS = list("ABCDEFGHIJ")


def test_answers() -> None:
    for case in cases("scienceqa"):
        given = case["input"]
        labels = LETTERS[: given["n_choices"]]
        target = labels[given["answer_index"]]
        got = scienceqa.score(given["prediction"], Question(target, [target], option_labels=labels))
        assert got.score == case["lmms_eval"]["exact_match"], case
        assert (got.parsed == target) == got.correct, case
        assert (got.parsed is None) == (got.status != "ok"), case
