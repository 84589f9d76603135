"""RealWorldQA as lmms-eval scores it: letters as `mcq` finds them, other answers word for word."""

from lofi.scoring import mcq
from lofi.scoring.answers import Answer, Question, worded


def score(prediction: str, question: Question) -> Answer:
    """Where there are options, 1 for the right letter; else 1 for the right text, but for case and full stops."""
    if question.option_labels:
        return mcq.score(prediction, question)
    text = prediction.lower().strip().rstrip(".")
    return worded(text, float(text == question.target.lower().strip()))
