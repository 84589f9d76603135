"""ScienceQA as lmms-eval scores it, and as LLaVA's own evaluation does."""

import re

from lofi.scoring.answers import AMBIGUOUS, UNPARSED, Answer, Question
from lofi.scoring.labels import labelled

_OPENING = re.compile(r"([A-Z])\.")
_BARE = re.compile(r"[A-Za-z]")
_LLAVA_BARE = re.compile(r"([A-Z])(?:\. .*)?", re.DOTALL)
_LLAVA_STATED = re.compile(r"The answer is ([A-Z]).")  # any character may follow, but one has to


def score(prediction: str, question: Question) -> Answer:
    """A bare letter in any case, or a text that opens with `X.`. `(B)`, `B)` and an option's words are no letters."""
    text = prediction.strip()
    if _BARE.fullmatch(text):
        return labelled(text.upper(), question)
    opening = _OPENING.match(text)
    return labelled(opening.group(1) if opening else None, question)


def score_llava(prediction: str, question: Question) -> Answer:
    """A bare capital, a text that opens with `X. `, or one `The answer is X.` anywhere."""
    if bare := _LLAVA_BARE.fullmatch(prediction):
        return labelled(bare.group(1), question)
    stated = _LLAVA_STATED.findall(prediction)
    letter = stated[0] if len(stated) == 1 else None
    return labelled(letter, question, otherwise=AMBIGUOUS if stated else UNPARSED)
