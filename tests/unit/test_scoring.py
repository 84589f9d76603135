"""Scorers never guess: what they read, what they refuse, and the two channels they serve."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lofi.data.registry import dataset_names, get_card
from lofi.data.rows import labels_of
from lofi.errors import UserError
from lofi.scoring import pope, scienceqa, vqa
from lofi.scoring.answers import STATUSES, Answer, Question
from lofi.scoring.contractions import RESTORED
from lofi.scoring.registry import SCORERS, get_scorer

LETTERS = ["A", "B", "C", "D"]


def letter(prediction: str) -> Answer:
    return scienceqa.score(prediction, Question("B", ["B"], ["red", "blue", "green", "pink"], LETTERS))


def yes_no(prediction: str) -> Answer:
    return pope.score(prediction, Question("yes", ["yes"], option_labels=["yes", "no"]))


def test_pope() -> None:
    assert yes_no(" YES\n") == Answer("yes", "ok", 1.0, True)
    assert yes_no("No") == Answer("no", "ok", 0.0, False)
    assert yes_no("Yes.") == Answer(None, "unparsed", 0.0, False)


def test_scienceqa() -> None:
    assert letter("b") == letter("B. red") == Answer("B", "ok", 1.0, True)
    assert letter("A") == Answer("A", "ok", 0.0, False)
    assert letter("E") == letter("E. red") == Answer(None, "not_option", 0.0, False)
    for text in ("(B)", "b.", "blue", "The answer is B", ""):
        assert letter(text) == Answer(None, "unparsed", 0.0, False)


def test_vqa_counts_the_other_annotators() -> None:
    people = ["two", "2", "3", *["many"] * 7]
    assert vqa.score_vqav2("2.", Question("many", people)) == Answer("2", "ok", pytest.approx(0.6), True)
    assert vqa.score_vqav2("three", Question("many", people)).score == pytest.approx(0.3)
    assert vqa.score_vqav2("many", Question("many", people)).score == 1.0
    assert vqa.score_vqav2(" the ", Question("many", people)) == Answer(None, "unparsed", 0.0, False)


def test_vqav2_keeps_possessives_and_textvqa_splits_them() -> None:
    assert vqa.score_vqav2("Dog's", Question("x", ["x"])).parsed == "dog's"
    assert vqa.score_textvqa("Dog's", Question("x", ["x"])).parsed == "dog 's"


def test_soft_accuracy_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        vqa.soft_accuracy("2", [])
    with pytest.raises(ValueError, match="nothing to average"):
        pope.rates([])


def test_contractions() -> None:
    assert RESTORED["dont"] == "don't"
    assert RESTORED["couldnt've"] == "couldn't've"
    assert "couldntve" not in RESTORED, "one apostrophe is restored, not two"
    assert not {"hell", "well", "id", "were", "shell", "its"} & RESTORED.keys()
    assert len(RESTORED) == 114


@pytest.mark.parametrize("name", SCORERS)
@given(prediction=st.text(max_size=30))
def test_any_text_gets_a_status_of_the_vocabulary(name: str, prediction: str) -> None:
    scorer = SCORERS[name]
    answer = scorer.rule(prediction, Question("no", ["no"] * 10, option_labels=["yes", "no"]))
    assert answer.status in scorer.statuses
    assert set(scorer.statuses) <= set(STATUSES)
    assert 0 <= answer.score <= 1
    assert answer.correct == (answer.score >= 0.5)
    assert (answer.parsed is None) == (answer.status != "ok")


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=10), st.sampled_from(["a", "b", "d"]))
def test_soft_accuracy_is_the_leave_one_out_mean(people: list[str], answer: str) -> None:
    shares = [min(1.0, sum(other == answer for other in people[:i] + people[i + 1 :]) / 3) for i in range(len(people))]
    assert vqa.soft_accuracy(answer, people) == pytest.approx(math.fsum(shares) / len(shares))


@pytest.mark.parametrize("name", dataset_names())
def test_every_label_scores_as_itself(name: str) -> None:
    card = get_card(name)
    labels = labels_of(str(card.task), ["one", "two", "three", "four", "five"])
    for label in labels:
        answer = get_scorer(card.scorer_of("lmms_eval")).rule(label, Question(label, [label], option_labels=labels))
        assert answer == Answer(label, "ok", 1.0, True)


def test_unknown_scorer_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'vqav2'"):
        get_scorer("vqa2")
