"""Each deliberate difference is one: the harness's own vectors show what it does, lofi does what is listed."""

from collections.abc import Callable

import pytest

from lofi.scoring import mmbench
from lofi.scoring.answers import Question
from lofi.scoring.differences import DIFFERENCES, Difference
from lofi.scoring.registry import get_scorer
from tests.golden.aggregated import answer, figures, near
from tests.golden.cases import cases

LETTERS = list("ABCD")


def mmmu_guess() -> None:
    guesses = [case for case in cases("mmmu_multi_choice") if case["lmms_eval"]["random_fallback"]]
    assert guesses
    for case in guesses:
        options = case["input"]["options"]
        for target in LETTERS[: len(options)]:
            question = Question(target, [target], options, LETTERS[: len(options)])
            got = get_scorer("mmmu").rule(case["input"]["prediction"], question)
            assert (got.parsed, got.status, got.score) == (None, "unparsed", 0.0), case


def mmmu_open() -> None:
    """The vectors hold the intended rule, under which some answers are right; kept as one text, none would be."""
    right = [case for case in cases("mmmu_open") if case["lmms_eval"]["eval_open_on_full_list"]]
    assert right
    for case in right:
        answer = case["input"]["answer"]
        accepted = answer if isinstance(answer, list) else [answer]
        assert get_scorer("mmmu").rule(case["input"]["prediction"], Question(accepted[0], accepted)).score == 1, case


def mmbench_absent() -> None:
    options = ["banana", None, "apple"]
    marked = Question("A", ["A"], ["nan" if text is None else text for text in options], ["A", "B", "C"])
    offered = Question("A", ["A"], ["banana", "apple"], ["A", "C"])
    assert mmbench.score("It is a banana", marked).status == "ambiguous"
    assert mmbench.score("It is a banana", offered).parsed == "A"


def mmbench_judge() -> None:
    undecided = [case for case in cases("mmbench_match") if not case["lmms_eval"]["can_infer"]]
    assert undecided
    for case in undecided:
        options = case["input"]["options"]
        question = Question("A", ["A"], options, LETTERS[: len(options)])
        for scorer in ("mmbench", "mmbench_vlmevalkit"):
            if scorer == "mmbench" or case["vlmevalkit"]["exact_matching_opt"] == "Z":
                got = get_scorer(scorer).rule(case["input"]["prediction"], question)
                assert (got.parsed, got.score) == (None, 0.0), case
                assert got.status in ("unparsed", "ambiguous"), case
    both = Question("A", ["A"], ["banana", "apple"], ["A", "B"])
    assert mmbench.score("Both apple and banana", both).status == "ambiguous"
    assert mmbench.score_static("Both apple and banana", both).parsed == "B"


def hallusionbench_judge() -> None:
    """There is one scorer for each harness, and each is a rule on strings."""
    for scorer in ("hallusionbench", "yesno_vlmevalkit"):
        question = Question("no", ["no"], option_labels=["yes", "no"])
        assert get_scorer(scorer).rule("No, it is not.", question).score == 1


def yes_ratio() -> None:
    parted = 0
    for case in cases("pope_aggregate"):
        records = case["input"]["records"]
        labels = sum(record["answer"] == "yes" for record in records) / len(records)
        assert case["lmms_eval"]["yes_ratio"] == pytest.approx(labels, abs=1e-9), case["id"]
        question = Question("yes", ["yes"], option_labels=["yes", "no"])
        answers = [get_scorer("pope").rule(record["prediction"], question).parsed for record in records]
        parted += answers.count("yes") / len(records) != pytest.approx(labels, abs=1e-9)
    assert parted, "some model says yes more or less often than is right"


def pope_figures(scorer: str, answers: list[tuple[str, str]]) -> dict[tuple[str, str | None], float | None]:
    rows = [
        answer(scorer, str(number), said, Question(target, [target], option_labels=["yes", "no"]), category="random")
        for number, (said, target) in enumerate(answers)
    ]
    return figures({"made": rows}, ["pope"])["made"]


def rate_of_nothing() -> None:
    never_yes = [
        case["input"]["records"]
        for case in cases("pope_aggregate")
        if all(record["prediction"] == "no" for record in case["input"]["records"])
    ]
    assert never_yes
    found = pope_figures("pope", [("no", record["answer"]) for record in never_yes[0]])
    assert found["precision", None] is None


def pope_recall() -> None:
    found = pope_figures("pope_vlmevalkit", [("yes", "yes"), ("perhaps", "yes"), ("no", "no")])
    assert found["recall", None] == 1.0
    assert found["accuracy", None] == near(2 / 3)


SHOWN: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (
        mmmu_guess,
        mmmu_open,
        mmbench_absent,
        mmbench_judge,
        hallusionbench_judge,
        yes_ratio,
        rate_of_nothing,
        pope_recall,
    )
}


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.name)
def test_difference(difference: Difference) -> None:
    SHOWN[difference.name]()


def test_every_difference_is_listed_once() -> None:
    assert [each.name for each in DIFFERENCES] == list(SHOWN)
    for each in DIFFERENCES:
        assert get_scorer(each.scorer)
