"""MMMU as lmms-eval means to score it: letters where there are options, else numbers and texts after key phrases."""

import re
from collections.abc import Iterator, Sequence

from lofi.scoring.answers import Answer, Question, worded
from lofi.scoring.labels import labelled

_MARKS = ",.!?;:'"
_FORMS = ("({})", "{} ", "{}.")  # of a letter, best first
_WORDS_OF_A_LETTER = 5  # an option's own words are looked for in longer texts only

_KEYS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)
_DECIMALS = 2


def score(prediction: str, question: Question) -> Answer:
    """1 for the right letter; without options, 1 if a candidate holds an accepted text or is an accepted number."""
    if question.option_labels:
        return labelled(letter(prediction, question.option_labels, question.options), question)
    found = candidates(prediction)
    accepted = [form for target in question.targets for form in _forms(target)]
    # A lone character stands twice among the forms, with a space before it and after it.
    parsed = " | ".join(dict.fromkeys(str(each).strip() for each in found))
    return worded(parsed, float(any(_holds(each, form) for each in found for form in accepted)))


def letter(prediction: str, labels: Sequence[str], options: Sequence[str]) -> str | None:
    """The last letter in the best form there is, else the last option whose words are in the text."""
    text = prediction
    for mark in _MARKS:
        text = text.strip(mark)
    text = f" {text} "
    for form in _FORMS:
        if found := [label for label in labels if form.format(label) in text]:
            last = form if form == _FORMS[0] else " {} "
            return max(found, key=lambda label: text.rfind(last.format(label)))
    return _worded(text, labels, options) if len(text.split()) > _WORDS_OF_A_LETTER else None


def candidates(prediction: str) -> list[float | str]:
    """All that an open answer may mean, numbers first, each once."""
    keys = list(_key_phrases(prediction))
    numbers = [found for key in keys for pattern in _NUMBERS for found in pattern.findall(key)]
    forms = {form for text in (*keys, *numbers) for form in _forms(text)}
    return sorted(forms, key=lambda form: (isinstance(form, str), str(form)))


def _worded(text: str, labels: Sequence[str], options: Sequence[str]) -> str | None:
    lower = text.lower()
    places = {label: lower.rfind(option.lower()) for label, option in zip(labels, options, strict=False)}
    found = [label for label, place in places.items() if place >= 0]
    return max(found, key=places.__getitem__, default=None)


def _key_phrases(prediction: str) -> Iterator[str]:
    """What follows a key word in each line, the shortest such end; the whole text where no line has one."""
    text = prediction.strip().strip(".").lower()
    # The published rule means to break at sentences, too, but looks for capitals in a text in lower case.
    *lines, last = text.split("\n")
    found = [*(_shortest_end(line, _KEYS) for line in lines), _shortest_end(last, (*_KEYS, "="))]
    yield from [end for end in found if end not in ("", *_MARKS)] or [text]


def _shortest_end(line: str, keys: Sequence[str]) -> str:
    shortest = ""
    for key in keys:
        end = line.split(key)[-1].strip()
        if key in line and (not shortest or len(end) < len(shortest)):
            shortest = end
    return shortest


def _forms(text: str) -> list[float | str]:
    """A number to two decimals, else the text in lower case; a lone character has to touch a space."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), _DECIMALS)]
    except ValueError:
        lower = text.lower()
        return [f" {lower}", f"{lower} "] if len(lower) == 1 else [lower]


def _holds(candidate: float | str, accepted: float | str) -> bool:
    if isinstance(candidate, str):
        return isinstance(accepted, str) and accepted in candidate
    return candidate == accepted
