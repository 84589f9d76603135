"""Scorers never guess: what they read, what they refuse, and the two channels they serve."""

import math
from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lofi.data.registry import dataset_names, get_card
from lofi.data.rows import labels_of
from lofi.errors import UserError
from lofi.scoring import anls, pope, vqa
from lofi.scoring.answers import STATUSES, Answer, Question
from lofi.scoring.contractions import RESTORED
from lofi.scoring.registry import SCORERS, get_scorer

LETTERS = ["A", "B", "C", "D"]
OPTIONS = ["red", "blue", "green", "pink"]
QUESTIONS = (
    Question("yes", ["yes"], option_labels=["yes", "no"]),
    Question("B", ["B"], OPTIONS, LETTERS),
    Question("7", ["7", "seven", "7 up"], category="HME100k"),
    Question("0.50", ["0.50"] * 10),
    Question("red bus", ["red bus"] * 4 + ["the bus"] * 6),
)
# Any text, and texts of what rules look for.
MARKS = list("=().,:%\n\tＢ７ß7")
SPOKEN = "Yes no not the answer is option so 0.5 1,000 1e3 -2"
WORDS = [*LETTERS, *OPTIONS, *MARKS, *SPOKEN.split()]
TEXTS = st.text(max_size=30) | st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)
# Every scorer with every task that some card gives it.
USES = sorted(
    {
        (card.scorer_of(style), task)
        for card in map(get_card, dataset_names())
        for style in card.prompts
        for task in card.tasks
    }
)
CHANGES: tuple[Callable[[str], str], ...] = (
    str.upper,
    str.lower,
    str.strip,
    lambda text: f" {text} ",
    lambda text: f"{text}.",
    lambda text: f"The {text}",
    lambda text: text.replace(" ", "  "),
    lambda text: text.replace(" ", ""),
    lambda text: text.replace("0.5", "0.50"),
)


def letter(prediction: str) -> Answer:
    return choice("scienceqa", prediction)


def choice(scorer: str, prediction: str) -> Answer:
    return SCORERS[scorer].rule(prediction, Question("B", ["B"], OPTIONS, LETTERS))


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


def test_contractions() -> None:
    assert RESTORED["dont"] == "don't"
    assert RESTORED["couldnt've"] == "couldn't've"
    assert "couldntve" not in RESTORED, "one apostrophe is restored, not two"
    assert not {"hell", "well", "id", "were", "shell", "its"} & RESTORED.keys()
    assert len(RESTORED) == 114


@given(prediction=TEXTS)
def test_any_text_gets_a_status_of_the_vocabulary(prediction: str) -> None:
    for question, (name, scorer) in product(QUESTIONS, SCORERS.items()):
        answer = scorer.rule(prediction, question)
        assert answer.status in STATUSES, name
        assert 0 <= answer.score <= 1, name
        assert answer.correct == (answer.score >= 0.5), name
        assert (answer.parsed is None) == (answer.status != "ok"), name


@given(prediction=TEXTS, change=st.sampled_from(CHANGES))
def test_answers_that_agree_have_one_score(prediction: str, change: Callable[[str], str]) -> None:
    for question, (name, scorer) in product(QUESTIONS, SCORERS.items()):
        one, other = (scorer.rule(text, question) for text in (prediction, change(prediction)))
        if one.parsed is not None and one.parsed == other.parsed:
            assert one.score == other.score, name


@given(prediction=TEXTS)
def test_a_scorer_gives_only_the_statuses_it_names(prediction: str) -> None:
    for scorer, task in USES:
        labels = labels_of(task, OPTIONS)
        target = labels[0] if labels else "7"
        question = Question(target, [target], OPTIONS if task == "mcq" else [], labels)
        assert get_scorer(scorer).rule(prediction, question).status in get_scorer(scorer).statuses, scorer


@pytest.mark.parametrize(
    "name",
    ["textvqa", "textvqa_vlmevalkit", "vqav2", "gqa", "gqa_llava", "gqa_vlmevalkit", "chartqa", "chartqa_vlmevalkit"],
)
@given(words=st.lists(st.text("bcdfg789", min_size=1), min_size=1))
def test_the_right_text_is_right(name: str, words: list[str]) -> None:
    target = " ".join(words)
    assert SCORERS[name].rule(target, Question(target, [target] * 10)).score == 1


@pytest.mark.parametrize("name", ["anls", "anls_vlmevalkit", "ocrbench", "ocrbench_vlmevalkit"])
@given(target=st.text(min_size=1).map(str.strip).filter(bool))
def test_any_right_text_is_right(name: str, target: str) -> None:
    assert SCORERS[name].rule(target, Question(target, ["other", target])).score == 1


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=10), st.sampled_from(["a", "b", "d"]))
def test_soft_accuracy_is_the_leave_one_out_mean(people: list[str], answer: str) -> None:
    shares = [min(1.0, sum(other == answer for other in people[:i] + people[i + 1 :]) / 3) for i in range(len(people))]
    assert vqa.soft_accuracy(answer, people) == pytest.approx(math.fsum(shares) / len(shares))


@pytest.mark.parametrize(("scorer", "task"), USES)
def test_every_label_scores_as_itself(scorer: str, task: str) -> None:
    """Where options are told apart by their logits, the prediction is exactly a label."""
    labels = labels_of(task, OPTIONS)
    for label in labels:
        question = Question(label, [label], OPTIONS if task == "mcq" else [], labels)
        assert get_scorer(scorer).rule(label, question) == Answer(label, "ok", 1.0, True)


def test_mmbench_says_when_several_answers_are_named() -> None:
    for scorer in ("mmbench", "mmbench_vlmevalkit"):
        assert choice(scorer, "blue or green").status == "ambiguous"
        assert choice(scorer, "B or C").status == "ambiguous"
        assert choice(scorer, "no idea").status == "unparsed"
        assert choice(scorer, "It is blue").parsed == choice(scorer, "(B)").parsed == "B"
    assert choice("mmbench", "E") == Answer(None, "not_option", 0.0, False)
    assert choice("mmbench_vlmevalkit", "E") == Answer(None, "unparsed", 0.0, False)
    assert choice("mmbench_vlmevalkit", "Cannot determine the answer, B").parsed is None
    assert choice("mmbench_vlmevalkit", "The answer is **B** and I explain that at some length").parsed == "B"


def test_letters_that_are_not_on_offer() -> None:
    for scorer in ("seedbench", "seedbench_llava", "ai2d", "scienceqa_llava"):
        assert choice(scorer, "E").status == "not_option"
    for scorer in ("seedbench", "ai2d", "mmmu", "mmstar"):
        assert choice(scorer, "").status == "unparsed"


def test_scienceqa_in_llava() -> None:
    for text in ("B", "B. red", "Well. The answer is B."):
        assert choice("scienceqa_llava", text).parsed == "B"
    for text in ("b", "B.", "B.red", " B", "The answer is B"):
        assert choice("scienceqa_llava", text).status == "unparsed"
    assert choice("scienceqa_llava", "The answer is A. The answer is B.").status == "ambiguous"


def test_seedbench_in_llava_takes_the_letter_alone() -> None:
    assert choice("seedbench_llava", "B\n").parsed == "B"
    assert choice("seedbench_llava", "b").parsed is None
    assert choice("seedbench_llava", "B. blue").parsed is None
    assert choice("seedbench", "b. blue").parsed == "B"


def test_mmmu_takes_options_as_letters_and_other_answers_as_numbers_and_texts() -> None:
    assert choice("mmmu", "(A) or (B)").parsed == "B"
    assert choice("mmmu", "In the end all of them look blue to me").parsed == "B"
    assert choice("mmmu", "blue") == Answer(None, "unparsed", 0.0, False)
    open_question = Question("8.5", ["8.5"])
    assert SCORERS["mmmu"].rule("so the result is 8.501.", open_question) == Answer("8.5", "ok", 1.0, True)
    assert SCORERS["mmmu"].rule("8.5%", open_question).parsed == "8.5 | 8.5%"
    assert SCORERS["mmmu"].rule(" .\n", open_question) == Answer(None, "unparsed", 0.0, False)


def test_chartqa_agrees_on_what_it_compares() -> None:
    rule = SCORERS["chartqa"].rule
    assert rule("12.0", Question("12", ["12"])).parsed == rule("1200%", Question("12", ["12"])).parsed == "12.0"
    assert rule("0.0", Question("0", ["0"])) == Answer("0.0", "ok", 0.0, False), "there is no twentieth of nothing"
    assert rule("nan", Question("12", ["12"])).score == 0
    listed = Question("['Yes', 3]", ["['Yes', 3]"])
    assert rule("yes", listed).score == 0
    assert SCORERS["chartqa_vlmevalkit"].rule(" yes", listed).score == 1
    assert SCORERS["chartqa_vlmevalkit"].rule("[Yes, No]", Question("[Yes, No]", ["[Yes, No]"])).score == 1


def test_two_empty_texts_are_alike() -> None:
    assert anls.similarity("", "") == 1


def test_ocrbench_formulas_are_told_by_their_category() -> None:
    formula = Question("x ^ 2", ["x ^ 2"], category="HME100k")
    assert SCORERS["ocrbench"].rule("x^2", formula) == Answer("x^2", "ok", 1.0, True)
    assert SCORERS["ocrbench"].rule("X^2", formula).score == 0
    assert SCORERS["ocrbench"].rule("x^2", Question("x ^ 2", ["x ^ 2"], category="SVT")).score == 0


@pytest.mark.parametrize("name", SCORERS)
def test_a_scorer_says_what_it_does(name: str) -> None:
    scorer = SCORERS[name]
    assert scorer.version >= 1
    assert scorer.harness in ("lmms_eval", "llava_official", "vlmevalkit")
    assert name.endswith(
        {"lmms_eval": name[-1], "llava_official": "_llava", "vlmevalkit": "_vlmevalkit"}[scorer.harness]
    )
    assert scorer.text.endswith(".")


def test_unknown_scorer_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'vqav2'"):
        get_scorer("vqa2")
