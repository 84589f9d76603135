"""Yes or no as VLMEvalKit reads it, for POPE, MME and HallusionBench alike."""

from lofi.scoring.answers import AMBIGUOUS, UNPARSED, Answer, Question
from lofi.scoring.labels import NO, YES, labelled
from lofi.scoring.normal import VLMEVALKIT, without_punctuation


def score(prediction: str, question: Question) -> Answer:
    """1 for the right word, which is among the words of the text while the other is not."""
    words = without_punctuation(prediction.lower(), VLMEVALKIT).split()
    found = [word for word in (YES, NO) if word in words]
    return labelled(found[0] if len(found) == 1 else None, question, otherwise=AMBIGUOUS if found else UNPARSED)
