"""SEED-Bench as lmms-eval scores it, and as LLaVA's own evaluation does."""

from lofi.scoring.answers import NOT_OPTION, UNPARSED, Answer, Question
from lofi.scoring.labels import labelled


def score(prediction: str, question: Question) -> Answer:
    """The first character is the letter, in any case, whatever word it begins."""
    text = prediction.strip()
    letter = text[:1].upper()
    if letter in question.option_labels:
        return labelled(letter, question)
    return labelled(None, question, otherwise=NOT_OPTION if len(text) == 1 and text.isalpha() else UNPARSED)


def score_llava(prediction: str, question: Question) -> Answer:
    """The whole text is the letter, a capital."""
    return labelled(_letter(prediction.strip()), question)


def _letter(text: str) -> str | None:
    return text if len(text) == 1 and text.isalpha() else None
