"""How near two generated texts are to each other: by characters, and by words."""

import unicodedata
from collections import Counter
from functools import lru_cache

import duckdb

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


def edits(one: str, other: str) -> int:
    """The fewest characters to insert, delete or replace between two texts.

    A column of the usual table at a time, as the bits of two numbers: where it goes up by one, where down by one
    (Myers 1999 in the form of Hyyrö 2003).
    """
    if not one:
        return len(other)
    places: dict[str, int] = {}
    for at, letter in enumerate(one):
        places[letter] = places.get(letter, 0) | 1 << at
    every, last = (1 << len(one)) - 1, 1 << (len(one) - 1)
    up, down, distance = every, 0, len(one)
    for letter in other:
        match = places.get(letter, 0)
        same = (((match & up) + up) ^ up) | match | down
        grown, shrunk = (down | ~(same | up)) & every, same & up
        distance += bool(grown & last) - bool(shrunk & last)
        grown, shrunk = (grown << 1 | 1) & every, (shrunk << 1) & every
        up, down = (shrunk | ~(same | grown)) & every, same & grown
    return distance


@lru_cache(REMEMBERED)
def token_f1(one: str, other: str) -> float:
    """The harmonic mean of the shares of words that the texts have in common. Two empty texts are the same."""
    words, others = one.split(), other.split()
    if not words or not others:
        return float(words == others)
    common = sum((Counter(words) & Counter(others)).values())
    return 2 * common / (len(words) + len(others))
