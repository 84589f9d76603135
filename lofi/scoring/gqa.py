"""GQA: the whole text equals the answer. The harnesses differ in what is taken off both before."""

import string

from lofi.scoring.answers import Answer, Question, worded

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def score(prediction: str, question: Question) -> Answer:
    """lmms-eval: case and ASCII punctuation do not count."""
    text = without_punctuation(prediction.strip())
    return worded(text, float(text == without_punctuation(question.target)))


def score_llava(prediction: str, question: Question) -> Answer:
    """LLaVA's own script: case and the full stops at the end do not count; spaces around it do."""
    text = prediction.rstrip(".").lower()
    return worded(text, float(text == question.target.lower()))


def score_vlmevalkit(prediction: str, question: Question) -> Answer:
    """VLMEvalKit: case and spaces around it do not count."""
    text = prediction.strip().lower()
    return worded(text, float(text == question.target.strip().lower()))


def without_punctuation(text: str) -> str:
    """Lower case, without any ASCII punctuation."""
    return text.lower().translate(_PUNCTUATION)
