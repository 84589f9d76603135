"""Templates and what fills them."""

import pytest

from lofi.data.prompts import BUILDERS, fill, lettered, options_of, render
from lofi.data.registry import card_from, get_card
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
