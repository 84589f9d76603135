"""How near two generated texts are to each other: by characters, and by words."""

import unicodedata
from collections import Counter
from functools import lru_cache

import duckdb

from lofi.edits import edits

ANLS_THRESHOLD = 0.5
ARTICLES = {"a", "an", "the"}
REMEMBERED = 20_000  # pairs of texts: models say the same few things again and again


def register(con: duckdb.DuckDBPyConnection) -> None:
    """Make `text_anls`, `text_f1` and `normal_text` known to SQL."""
    con.create_function("normal_text", normal_text, ["VARCHAR"], "VARCHAR")
    con.create_function("text_anls", anls, ["VARCHAR", "VARCHAR"], "DOUBLE")
    con.create_function("text_f1", token_f1, ["VARCHAR", "VARCHAR"], "DOUBLE")


@lru_cache(REMEMBERED)
def normal_text(text: str) -> str:
    """Compatible characters as one, lower case, no punctuation, no articles, single spaces."""
    folded = unicodedata.normalize("NFKC", text).lower()
    plain = "".join(" " if unicodedata.category(letter).startswith("P") else letter for letter in folded)
    return " ".join(word for word in plain.split() if word not in ARTICLES)


@lru_cache(REMEMBERED)
def anls(one: str, other: str) -> float:
    """1 - edits / length of the longer text; 0 where half of it or more has to change. Two empty texts are the same."""
    length = max(len(one), len(other))
    if abs(len(one) - len(other)) >= ANLS_THRESHOLD * length > 0:  # as many edits at least
        return 0.0
    distance = edits(one, other) / length if length else 0.0
    return 1 - distance if distance < ANLS_THRESHOLD else 0.0


@lru_cache(REMEMBERED)
def token_f1(one: str, other: str) -> float:
    """The harmonic mean of the shares of words that the texts have in common. Two empty texts are the same."""
    words, others = one.split(), other.split()
    if not words or not others:
        return float(words == others)
    common = sum((Counter(words) & Counter(others)).values())
    return 2 * common / (len(words) + len(others))
