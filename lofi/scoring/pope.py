"""POPE as lmms-eval scores it, and as LLaVA's own evaluation does."""

from lofi.scoring.answers import Answer, Question
from lofi.scoring.labels import NO, YES, labelled

_NEGATIONS = {"No", "not", "no"}  # in this case only: "NO" and "Not" are none


def score(prediction: str, question: Question) -> Answer:
    """1 for the right word, the whole text in any case. `Yes.` is neither word and stays unparsed."""
    word = prediction.lower().strip()
    return labelled(word if word in (YES, NO) else None, question)


def score_llava(prediction: str, question: Question) -> Answer:
    """1 for the right word. A first sentence without a negation is a yes, whatever it says."""
    words = prediction.split(".")[0].replace(",", "").split(" ")
    return labelled(NO if _NEGATIONS.intersection(words) else YES, question)
