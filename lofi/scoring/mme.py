"""MME as lmms-eval scores it: the answer is in the first four characters, or there is none."""

from lofi.scoring.answers import Answer, Question
from lofi.scoring.labels import NO, YES, labelled

_INITIALS = {"y": YES, "n": NO}
_READ = 4  # so "know" and "not sure" are a no


def score(prediction: str, question: Question) -> Answer:
    """1 for the right word: the whole text, its initial alone, or a word that its beginning holds."""
    text = prediction.lower().strip().replace(".", "")
    if len(text) == 1:
        return labelled(_INITIALS.get(text), question)
    beginning = text[:_READ]
    return labelled(next((word for word in (YES, NO) if word in beginning), None), question)
