"""OCRBench: an accepted answer is somewhere in the text. Formulas are compared without spaces, case and all."""

from collections.abc import Callable

from lofi.scoring.answers import Answer, Question, worded

_FORMULAS = "HME100k"  # the part of OCRBench, named by its category, whose answers are formulas
# Fullwidth letters, digits and marks, and the ideographic space.
_NARROW = {0xFF01 + offset: 0x21 + offset for offset in range(94)} | {0x3000: " "}


def score(prediction: str, question: Question) -> Answer:
    """lmms-eval: fullwidth characters are their narrow ones, but not in formulas."""
    return _score(prediction, question, lambda text: _folded(text).translate(_NARROW))


def score_vlmevalkit(prediction: str, question: Question) -> Answer:
    """VLMEvalKit: fullwidth characters are other characters."""
    return _score(prediction, question, _folded)


def _score(prediction: str, question: Question, normal_form: Callable[[str], str]) -> Answer:
    form = _formula if question.category == _FORMULAS else normal_form
    text = form(prediction)
    return worded(text, float(any(form(target) in text for target in question.targets)))


def _folded(text: str) -> str:
    return text.lower().strip().replace("\n", " ")


def _formula(text: str) -> str:
    return text.strip().replace("\n", " ").replace(" ", "")
