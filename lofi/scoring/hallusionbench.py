"""HallusionBench without a judge, as lmms-eval's own judge-free evaluation scores it."""

from lofi.scoring.answers import Answer, Question
from lofi.scoring.labels import NO, YES, labelled


def score(prediction: str, question: Question) -> Answer:
    """1 for the right word. A text that has no `yes` in it, as part of a word or alone, is a no."""
    return labelled(YES if YES in prediction.lower() else NO, question)
