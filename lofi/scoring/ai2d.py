"""AI2D as lmms-eval scores it: a text that opens with `X.`, else one that is a letter but for punctuation."""

import re

from lofi.scoring.answers import Answer, Question
from lofi.scoring.gqa import without_punctuation
from lofi.scoring.labels import labelled

_OPENING = re.compile(r"\s*([A-Z])\.")


def score(prediction: str, question: Question) -> Answer:
    """1 for the right letter; `(b)` is one, `B) the leaf` is not."""
    opening = _OPENING.match(prediction)
    text = opening.group(1) if opening else prediction.strip()
    letter = without_punctuation(text).upper()
    return labelled(letter if len(letter) == 1 and letter.isalpha() else None, question)
