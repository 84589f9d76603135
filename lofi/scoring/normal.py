"""The normal form of the VQA challenge: punctuation, number words, articles and contractions."""

import re
from dataclasses import dataclass

from lofi.scoring.contractions import RESTORED

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_FULL_STOPS_REMOVED = 32  # the published code passes a regex flag where the count belongs
_NUMBERS = "zero one two three four five six seven eight nine ten"
_DIGITS = {"none": "0"} | {word: str(number) for number, word in enumerate(_NUMBERS.split())}
_ARTICLES = {"a", "an", "the"}


@dataclass(frozen=True)
class Marks:
    """Where the harnesses' copies of the normal form part."""

    thousands: re.Pattern[str]  # with one of these in the text every mark vanishes
    full_stop: re.Pattern[str]  # a full stop that is dropped


LMMS_EVAL = Marks(re.compile(r"\d,+\d"), re.compile(r"\.(?!\d)"))
VLMEVALKIT = Marks(re.compile(r"\d,\d"), re.compile(r"(?<!\d)\.(?!\d)"))  # "1." keeps its full stop


def clean_up(text: str) -> str:
    """Lower case, no commas or question marks, possessives set apart."""
    return text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()


def normalise(text: str, marks: Marks = LMMS_EVAL) -> str:
    """The challenge's normal form, without the clean-up."""
    flat = text.replace("\n", " ").replace("\t", " ").strip()
    return without_articles(without_punctuation(flat, marks))


def without_punctuation(text: str, marks: Marks = LMMS_EVAL) -> str:
    """Marks vanish where they touch a space anywhere or a number has thousands; others become a space."""
    thousands = marks.thousands.search(text) is not None
    result = text
    for mark in _PUNCTUATION:
        vanishes = thousands or f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if vanishes else " ")
    return marks.full_stop.sub("", result, count=_FULL_STOPS_REMOVED)


def without_articles(text: str) -> str:
    """Lower case, number words as digits, no articles, contractions restored, single spaces."""
    words = (_DIGITS.get(word, word) for word in text.lower().split())
    return " ".join(RESTORED.get(word, word) for word in words if word not in _ARTICLES)
