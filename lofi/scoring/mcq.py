"""A letter anywhere in a text: places of the text are ranked, and the last letter of the best place counts."""

from collections.abc import Callable, Sequence
from functools import partial

from lofi.scoring.answers import Answer, Question
from lofi.scoring.labels import labelled

_MARKS = ",.!?;:'\""
_CHOSEN = ("i choose", "i select", "i pick")
_STATED = {
    "answer is": ("", "the ", "my ", "correct ", "the correct ", "best ", "the best "),
    "choice is": ("", "the ", "my ", "correct ", "the correct "),
    "option is": ("correct ", "the correct ", "best ", "the best "),
}
_ABROAD = ("옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは")
PHRASES = (*(opening + end for end, openings in _STATED.items() for opening in openings), *_CHOSEN, *_ABROAD)


def score(prediction: str, question: Question) -> Answer:
    """1 for the right letter. Only letters on offer are looked for, and only capitals."""
    return labelled(letter(prediction, question.option_labels), question)


def letter(prediction: str, labels: Sequence[str]) -> str | None:
    """The letter of `labels` that the text gives as its answer."""
    text = prediction.strip()
    for mark in _MARKS:
        text = text.strip(mark)
    text = f" {text} "
    for place in _PLACES:
        found = {label: at for label in labels if (at := place(text, label)) >= 0}
        if found:
            return max(found, key=found.__getitem__)
    return None


def _first(text: str, label: str) -> int:
    """Where a text begins with a letter that begins no word; -1 where it does not."""
    text = text.strip()
    return 0 if text.startswith(label) and not text[1:2].isalpha() else -1


def _last(text: str, label: str) -> int:
    """Where a text ends with a letter that ends no word."""
    text = text.strip()
    return len(text) if text.endswith(label) and not text[-2:-1].isalpha() else -1


def _stated(text: str, label: str) -> int:
    """Where a letter, of a word or alone, comes first after a phrase; of several phrases the latest such place."""
    lower = text.lower()
    ends = [lower.find(phrase) + len(phrase) for phrase in PHRASES if phrase in lower]
    return max((text.find(label, end) for end in ends), default=-1)


def _form(form: str, text: str, label: str) -> int:
    """Where a letter is last written so, at the end of a word or alone."""
    return text.rfind(form.format(label))


# Best first; the last one is any letter at all.
_PLACES: tuple[Callable[[str, str], int], ...] = (
    _first,
    _last,
    _stated,
    *(partial(_form, form) for form in ("({})", "{}.", "{}:", "{})", "{} ", "{}")),
)
