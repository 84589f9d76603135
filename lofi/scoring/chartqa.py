"""ChartQA: a number may be off by a twentieth of the right one, a text has to be the right one in any case."""

import ast
import warnings
from collections.abc import Sequence

from lofi.scoring.answers import Answer, Question, worded

_TOLERANCE = 0.05


def score(prediction: str, question: Question) -> Answer:
    """lmms-eval: spaces around a text count."""
    return _score(prediction, [question.target])


def score_vlmevalkit(prediction: str, question: Question) -> Answer:
    """VLMEvalKit: spaces around the prediction do not count, and each element of a list is a right answer."""
    return _score(prediction.strip(), _elements(question.target))


def number(text: str) -> float | None:
    """The number a text is, with a percent sign or without; None where it is none."""
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def _score(text: str, targets: Sequence[str]) -> Answer:
    """What agreement sees is what was compared: the number if it is compared with every target, else the text."""
    value = number(text)
    right = float(any(_right(text, target) for target in targets))
    return worded(str(value) if value is not None and all(map(number, targets)) else text.lower(), right)


def _right(text: str, target: str) -> bool:
    """A target of 0 has no twentieth: it is compared as a text."""
    value, wanted = number(text), number(target)
    if value is not None and wanted:
        return abs(value - wanted) / abs(wanted) <= _TOLERANCE
    return text.lower() == target.lower()


def _elements(target: str) -> list[str]:
    """The elements of a target that is written as a list, else the target."""
    if not (target.startswith("[") and target.endswith("]")):
        return [target]
    try:
        with warnings.catch_warnings(action="ignore"):
            return [str(each) for each in ast.literal_eval(target)]
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return [target]
