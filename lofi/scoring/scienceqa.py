"""ScienceQA as lmms-eval scores it: a bare letter in any case, or a text that opens with `X.`."""

import re

from lofi.scoring.answers import NOT_OPTION, UNPARSED, Answer, Question, answered, unanswered

_OPENING = re.compile(r"([A-Z])\.")
_BARE = re.compile(r"[A-Za-z]")


def score(prediction: str, question: Question) -> Answer:
    """1 for the right letter. `(B)`, `B)` and the option's own words are not letters under this rule."""
    text = prediction.strip()
    if _BARE.fullmatch(text):
        letter = text.upper()
    elif opening := _OPENING.match(text):
        letter = opening.group(1)
    else:
        return unanswered(UNPARSED)
    if letter not in question.option_labels:
        return unanswered(NOT_OPTION)
    return answered(letter, float(letter == question.target))
