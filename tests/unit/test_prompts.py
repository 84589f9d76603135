"""Templates and what fills them."""

import pytest

from lofi.data.prompts import listed_in, options_of, render, task_of, value_of
from lofi.data.registry import card_from, get_card
from lofi.data.templates import BUILDERS, fill, lettered
from lofi.errors import UserError

MCQ = {
    "title": "Options in columns",
    "source": "a/b",
    "split": "dev",
    "columns": ["index", "question", "hint", "answer", "A", "B", "C", "D", "image"],
    "image": "image",
    "question": "question",
    "options": ["A", "B", "C", "D"],
    "target": "answer",
    "sample_id": "{index}",
    "task": "mcq",
    "scorer": "scienceqa",
    "max_new_tokens": 16,
    "prompts": {"plain": "{hint:context}{question}\n{options:lettered}"},
}


def test_pope_strips_the_question() -> None:
    prompt = render(get_card("pope"), "lmms_eval", {"question": " Is there a cat? "})
    assert prompt == "Is there a cat?\nAnswer the question using a single word or phrase."
    assert render(get_card("pope"), "vlmevalkit", {"question": " Is there a cat? "}) == " Is there a cat? "


@pytest.mark.parametrize("hint", ["", "nan", None])
def test_an_absent_hint_leaves_no_trace(hint: str | None) -> None:
    row = {"question": "Which?", "choices": ["nan", "red"], "hint": hint}
    prompt = render(get_card("scienceqa_img"), "lmms_eval", row)
    assert prompt.startswith("Which?\nA. nan\nB. red\nAnswer with"), "an option of a list may be the word nan"


def test_options_in_columns_leave_out_absent_ones() -> None:
    card = card_from("mine", MCQ)
    row = {"question": "Which?", "hint": "Look.", "A": "one", "B": "two", "C": "nan", "D": None}
    assert options_of(card, row) == ["one", "two"]
    assert render(card, "plain", row) == "Context: Look.\nWhich?\nA. one\nB. two"


def test_braces_in_a_question_stay() -> None:
    row = {"question": "What is {x} in {0}?"}
    assert render(get_card("vqav2_val"), "lmms_eval", row).startswith("What is {x} in {0}?\n")


def test_unknown_style_and_field_are_named() -> None:
    with pytest.raises(UserError, match="did you mean 'lmms_eval'"):
        render(get_card("pope"), "lmmseval", {"question": "?"})
    with pytest.raises(UserError, match="names 'hint', which the row lacks; it has question"):
        fill("{hint}", {"question": "?"})


def test_more_options_than_letters_is_an_error() -> None:
    with pytest.raises(ValueError, match="27 options"):
        lettered([str(number) for number in range(27)])


def test_plain_format_specs_still_work() -> None:
    assert "06d" not in BUILDERS
    assert fill("{row:06d}", {"row": 7}) == "000007"


def test_an_absent_option_before_another_is_an_error() -> None:
    row = {"question": "Which?", "hint": "", "A": "one", "B": "nan", "C": "three", "D": None}
    with pytest.raises(ValueError, match="option B is absent, and one after it is not"):
        options_of(card_from("mine", MCQ), row)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("Which?\nOptions: A: red, B: blue", ["red", "blue"]),
        ("Which?\nOptions: A: red, big, B: not, C or D, C: none", ["red, big", "not, C or D", "none"]),
        ("Which?\n\nA. red\nB. blue\nAnswer with the letter.", ["red", "blue"]),
        ("Which?\nChoices:\n(A) red\n(B) blue\n(C) 3 (of 4)", ["red", "blue", "3 (of 4)"]),
        ("Which?\nA) red\nB) blue", ["red", "blue"]),
        ("A. Smith says:\nA: red\nB: blue", ["red", "blue"]),
        ("Which is A, and which is B?", []),
        ("Does A. Smith know Mr. B. Jones?", []),
        ("Which?\nA. red", []),
        ("Which?\nB. red\nC. blue", []),
        ("", []),
    ],
)
def test_options_within_the_text_of_a_question(text: str, options: list[str]) -> None:
    assert listed_in(text) == options


def test_a_row_that_lists_no_options_is_open_unless_the_card_has_letters() -> None:
    listed = MCQ | {"options": [], "options_in": "question"}
    row = {"question": "How many?", "hint": ""}
    assert task_of(card_from("mine", listed), row) == "open"
    assert task_of(card_from("mine", listed), row | {"question": "Which?\nA. 1\nB. 2"}) == "mcq"
    assert task_of(card_from("mine", listed | {"letters": ["A", "B"]}), row) == "mcq"
    assert card_from("mine", listed).tasks == ("mcq", "open")
    assert card_from("mine", listed | {"letters": ["A", "B"]}).tasks == ("mcq",)


def test_a_task_that_a_column_decides() -> None:
    card = get_card("mmmu_val")
    assert task_of(card, {"question_type": "open"}) == "open"
    with pytest.raises(ValueError, match="question_type is 'essay', and the card's `task` says nothing of that"):
        task_of(card, {"question_type": "essay"})


def test_lists_that_are_written_as_python_writes_them() -> None:
    card = get_card("mmmu_val")
    assert value_of(card, {"options": "['a, b', \"it's\"]"}, "options") == ["a, b", "it's"]
    assert value_of(card, {"answer": "B"}, "answer") == "B"
    assert value_of(card, {"question": "[1, 2]"}, "question") == "[1, 2]", "the card says nothing of this column"
    with pytest.raises(ValueError, match="options is '\\[a, b\\]', which is no Python list"):
        value_of(card, {"options": "[a, b]"}, "options")
