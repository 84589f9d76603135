"""MMBench's options are inferred exactly as each harness does without a judge."""

from typing import Any

from lofi.scoring import mmbench
from lofi.scoring.answers import Answer, Question
from lofi.scoring.registry import get_scorer
from tests.golden.cases import cases

LETTERS = "ABCD"


def question(case: dict[str, Any], target: str, absent: str | None = None) -> Question:
    """The case's options; those that are absent stay out, or have the text that stands for them."""
    options = [*case["input"]["options"], *[None] * len(LETTERS)][: len(LETTERS)]
    given = {letter: absent if text is None else text for letter, text in zip(LETTERS, options, strict=True)}
    offered = {letter: text for letter, text in given.items() if text is not None}
    return Question(target, [target], list(offered.values()), list(offered))


def check(got: Answer, inferred: str | None, asked: Question, case: dict[str, Any]) -> None:
    """A letter that is not on offer is wrong under either rule, so lofi does not count it as an answer."""
    assert got.parsed == (inferred if inferred in asked.option_labels else None), case
    assert got.score == float(inferred == asked.target), case


def test_lmms_eval() -> None:
    for case in cases("mmbench_match"):
        expected = case["lmms_eval"]
        assert (mmbench.letter(case["input"]["prediction"]) or False) == expected["can_infer_option"], case
        for target in question(case, "A").option_labels:
            asked = question(case, target)
            got = get_scorer("mmbench").rule(case["input"]["prediction"], asked)
            check(got, expected["can_infer"] or None, asked, case)


def test_quoted_options() -> None:
    for case in cases("mmbench_match"):
        quoted = mmbench.options_in(case["input"]["prediction"], question(case, "A"))
        expected = case["lmms_eval"]["can_infer_text"]
        assert (quoted[0] if len(quoted) == 1 else False) == expected, case


def test_options_that_stand_for_absent_ones() -> None:
    """As in the hub's copy of the dataset, if the card did not leave them out."""
    for case in cases("mmbench_match"):
        if "can_infer_with_nan_string_options" in case["lmms_eval"]:
            asked = question(case, "A", absent="nan")
            got = get_scorer("mmbench").rule(case["input"]["prediction"], asked)
            check(got, case["lmms_eval"]["can_infer_with_nan_string_options"] or None, asked, case)


def test_vlmevalkit() -> None:
    for case in cases("mmbench_match"):
        for target in question(case, "A").option_labels:
            asked = question(case, target)
            got = get_scorer("mmbench_vlmevalkit").rule(case["input"]["prediction"], asked)
            check(got, case["vlmevalkit"]["exact_matching_opt"], asked, case)
            inferred = case["vlmevalkit"]["can_infer"] or None
            check(got, inferred, asked, case)


def test_static_evaluation() -> None:
    """Every rotation of a question has to be right."""
    for case in cases("mmbench_circular"):
        right: dict[str, bool] = {}
        for record in case["input"]["records"]:
            offered = {letter: record[letter] for letter in LETTERS if record[letter] is not None}
            asked = Question(record["answer"], [record["answer"]], list(offered.values()), list(offered))
            got = get_scorer("mmbench_static").rule(record["prediction"], asked)
            group = str(record["g_index"])
            right[group] = right.get(group, True) and got.correct
        assert right == {group: bool(hit) for group, hit in case["lmms_eval_static"]["hit"].items()}, case["id"]
