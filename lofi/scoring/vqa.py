"""Soft accuracy of open answers: normalise as the VQA challenge does, then ask how many annotators agree.

An answer is right to the degree that others gave it: the score is the mean over the annotators, each left out
in turn, of min(1, matches among the others / 3). `correct` is score >= 0.5: of ten annotators, two or more
gave this answer.
"""

import re
from collections.abc import Sequence

from lofi.scoring.answers import UNPARSED, Answer, Question, answered, unanswered
from lofi.scoring.contractions import RESTORED

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_THOUSANDS = re.compile(r"\d,+\d")
_FULL_STOP = re.compile(r"\.(?!\d)")
_FULL_STOPS_REMOVED = 32  # the published code passes a regex flag where the count belongs
_NUMBERS = "zero one two three four five six seven eight nine ten"
_DIGITS = {"none": "0"} | {word: str(number) for number, word in enumerate(_NUMBERS.split())}
_ARTICLES = {"a", "an", "the"}
_ANNOTATORS_FOR_FULL_SCORE = 3


def score_vqav2(prediction: str, question: Question) -> Answer:
    """VQAv2: the texts are normalised without the clean-up of case, commas and possessives."""
    return _score(normalise(prediction), [normalise(text) for text in question.targets])


def score_textvqa(prediction: str, question: Question) -> Answer:
    """TextVQA and VizWiz: cleaned up first, then normalised."""
    return _score(normalise(clean_up(prediction)), [normalise(clean_up(text)) for text in question.targets])


def soft_accuracy(answer: str, annotations: Sequence[str]) -> float:
    """The annotators' support for `answer`, 0 to 1. All texts are normalised already."""
    if not annotations:
        raise ValueError("soft accuracy needs at least one annotated answer")
    matches = annotations.count(answer)
    # Leaving out one of the matching annotators costs a match; leaving out any other does not.
    without_own = min(1.0, (matches - 1) / _ANNOTATORS_FOR_FULL_SCORE)
    without_other = min(1.0, matches / _ANNOTATORS_FOR_FULL_SCORE)
    return (matches * without_own + (len(annotations) - matches) * without_other) / len(annotations)


def clean_up(text: str) -> str:
    """Lower case, no commas or question marks, possessives set apart."""
    return text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()


def normalise(text: str) -> str:
    """The challenge's normal form: punctuation, number words, articles, contractions."""
    flat = text.replace("\n", " ").replace("\t", " ").strip()
    return without_articles(without_punctuation(flat))


def without_punctuation(text: str) -> str:
    """Marks vanish where they touch a space anywhere or a number has thousands; others become a space."""
    thousands = _THOUSANDS.search(text) is not None
    result = text
    for mark in _PUNCTUATION:
        vanishes = thousands or f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if vanishes else " ")
    return _FULL_STOP.sub("", result, count=_FULL_STOPS_REMOVED)


def without_articles(text: str) -> str:
    """Lower case, number words as digits, no articles, contractions restored, single spaces."""
    words = (_DIGITS.get(word, word) for word in text.lower().split())
    return " ".join(RESTORED.get(word, word) for word in words if word not in _ARTICLES)


def _score(answer: str, annotations: Sequence[str]) -> Answer:
    score = soft_accuracy(answer, annotations)
    return answered(answer, score) if answer else unanswered(UNPARSED, score)
