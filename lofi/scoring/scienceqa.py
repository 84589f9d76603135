"""ScienceQA as lmms-eval scores it: a bare letter in any case, or a text that opens with `X.`."""

import re
from collections.abc import Sequence

from lofi.scoring.answers import NOT_OPTION, UNPARSED, Answer, answered, unanswered

_OPENING = re.compile(r"([A-Z])\.")
_BARE = re.compile(r"[A-Za-z]")


def score(
    prediction: str, target: str, targets: Sequence[str], options: Sequence[str], option_labels: Sequence[str]
) -> Answer:
    """1 for the right letter. `(B)`, `B)` and the option's own words are not letters under this rule."""
    text = prediction.strip()
    if _BARE.fullmatch(text):
        letter = text.upper()
    elif opening := _OPENING.match(text):
        letter = opening.group(1)
    else:
        return unanswered(UNPARSED)
    if letter not in option_labels:
        return unanswered(NOT_OPTION)
    return answered(letter, float(letter == target))
