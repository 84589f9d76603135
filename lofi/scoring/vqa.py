"""Soft accuracy of open answers: normalise as the VQA challenge does, then ask how many annotators agree.

An answer is right to the degree that others gave it: the score is the mean over the annotators, each left out
in turn, of min(1, matches among the others / 3). `correct` is score >= 0.5: of ten annotators, two or more
gave this answer.
"""

from collections.abc import Callable, Sequence

from lofi.scoring.answers import Answer, Question, worded
from lofi.scoring.normal import VLMEVALKIT, clean_up, normalise

_ANNOTATORS_FOR_FULL_SCORE = 3


def score_vqav2(prediction: str, question: Question) -> Answer:
    """VQAv2: the texts are normalised without the clean-up of case, commas and possessives."""
    return _score(prediction, question, normalise)


def score_textvqa(prediction: str, question: Question) -> Answer:
    """TextVQA and VizWiz: cleaned up first, then normalised."""
    return _score(prediction, question, lambda text: normalise(clean_up(text)))


def score_vlmevalkit(prediction: str, question: Question) -> Answer:
    """TextVQA and VizWiz in VLMEvalKit: its own copy of the normal form, without the clean-up."""
    return _score(prediction, question, lambda text: normalise(text, VLMEVALKIT))


def soft_accuracy(answer: str, annotations: Sequence[str]) -> float:
    """The annotators' support for `answer`, 0 to 1. All texts are normalised already."""
    if not annotations:
        raise ValueError("soft accuracy needs at least one annotated answer")
    matches = annotations.count(answer)
    # Leaving out one of the matching annotators costs a match; leaving out any other does not.
    without_own = min(1.0, (matches - 1) / _ANNOTATORS_FOR_FULL_SCORE)
    without_other = min(1.0, matches / _ANNOTATORS_FOR_FULL_SCORE)
    return (matches * without_own + (len(annotations) - matches) * without_other) / len(annotations)


def _score(prediction: str, question: Question, normal_form: Callable[[str], str]) -> Answer:
    answer = normal_form(prediction)
    return worded(answer, soft_accuracy(answer, [normal_form(text) for text in question.targets]))
