"""MMMU's letters and open answers are read exactly as lmms-eval's functions do, where these do not guess."""

from lofi.scoring import mmmu
from lofi.scoring.answers import Question
from lofi.scoring.registry import get_scorer
from tests.golden.cases import cases

LETTERS = list("ABCDEFGHI")


def test_letters() -> None:
    for case in cases("mmmu_multi_choice"):
        options, expected = case["input"]["options"], case["lmms_eval"]["parsed"]
        labels = LETTERS[: len(options)]
        for target in labels:
            question = Question(target, [target], options, labels)
            got = get_scorer("mmmu").rule(case["input"]["prediction"], question)
            assert (got.parsed, got.score) == (expected, float(expected == target)), case
            assert got.status == ("unparsed" if expected is None else "ok"), case


def test_open_answers() -> None:
    for case in cases("mmmu_open"):
        expected = case["lmms_eval"]
        assert mmmu.candidates(case["input"]["prediction"]) == expected["parse_open_response_sorted"], case
        answer = case["input"]["answer"]
        accepted = answer if isinstance(answer, list) else [answer]
        got = get_scorer("mmmu").rule(case["input"]["prediction"], Question(accepted[0], accepted))
        assert got.correct == expected["eval_open_on_full_list"], case
        assert got.score == float(got.correct), case
