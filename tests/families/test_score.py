"""`lofi.score` on users' own questions, with and without `lofi.reduce` around it."""

import pytest
import torch

import lofi
from lofi.errors import UserError
from tests.families.reference import SQUARE, TALL, WIDE, batch_of, family
from tests.families.tiny import FAMILY_NAMES

IMAGES = [SQUARE, WIDE, TALL, SQUARE]
QUESTIONS = [
    "Is there a red 7 in the image?",
    "What color is the number below the 4? Answer with a single word.",
    "How many?",
    "Which number is on the left?",
]


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_scores_do_not_depend_on_the_batch(name: str) -> None:
    model, processor = family(name)
    for method, keep in (("random", 1.0), ("lofi", 0.25), ("fastv", 0.75), ("dart", 0.75)):
        with lofi.reduce(model, method, keep) as trace:
            together = lofi.score(model, processor, IMAGES, QUESTIONS, max_new_tokens=4)
            alone = lofi.score(model, processor, IMAGES, QUESTIONS, max_new_tokens=4, batch=1)
        assert torch.allclose(together.logits, alone.logits, atol=1e-4)
        assert together.answers == alone.answers
        assert trace.prompts[0].n == trace.prompts[-1].n
        assert together.choices == (None,) * 4


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_scores_are_the_models_own_logits(name: str) -> None:
    model, processor = family(name)
    found = lofi.score(model, processor, IMAGES[:1], QUESTIONS[:1], ["yes", "no"])
    with torch.inference_mode():
        logits = model(**batch_of(name, [((SQUARE,), QUESTIONS[0])])).logits[0, -1]
    assert torch.allclose(found.logits[0], logits, atol=1e-4)
    options = {label: max(float(logits[i]) for i in forms(processor, label)) for label in ("yes", "no")}
    assert found.answers == (max(options, key=options.__getitem__),)
    (choice,) = found.choices
    assert choice is not None
    assert choice.label == found.answers[0]


def forms(processor: object, label: str) -> list[int]:
    """The first tokens that open an option, as it is or with a capital."""
    tokenizer = processor.tokenizer  # type: ignore[attr-defined]
    written = (label, label.capitalize())
    return [tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in written]


def test_bad_questions_are_refused() -> None:
    model, processor = family("llava")
    with pytest.raises(UserError, match="2 images and 1 questions"):
        lofi.score(model, processor, IMAGES[:2], QUESTIONS[:1])
    with pytest.raises(UserError, match="there is no question"):
        lofi.score(model, processor, [], [])
    with pytest.raises(UserError, match="options for 1 of 2 questions"):
        lofi.score(model, processor, IMAGES[:2], QUESTIONS[:2], [["yes", "no"]])
