"""Prompts: what a row of a dataset asks, and what it offers as answers. Pure functions on one row.

A dataset that needs a new layout needs a line of YAML and at most one builder (`lofi.data.templates`).
"""

import re
from ast import literal_eval
from collections.abc import Mapping
from typing import Any

from lofi.data.registry import BY, Card
from lofi.data.templates import ABSENT, LETTERS, fill

# Where the text of a question lists its options: `A. red`, `A: red`, `A) red` or `(A) red`, each on a line of its
# own, or one after the other behind commas.
MARKER = r"(?:^|(?<=, )|(?<=Options: )|(?<=Choices: ))[ \t]*(?:\({0}\)|{0}[.:)])[ \t]*"


def render(card: Card, style: str, row: Mapping[str, Any]) -> str:
    """The text a model is asked: what stands after the image in the user's turn."""
    return fill(card.template(style, task_of(card, row)), {**row, "options": options_of(card, row)})


def task_of(card: Card, row: Mapping[str, Any]) -> str:
    """Whether a row is answered by yes or no, by a letter, or by a text."""
    if isinstance(card.task, str):
        unlisted = card.options_in and not card.letters and not options_of(card, row)
        return "open" if unlisted else card.task
    value = str(row[card.task[BY]])
    if value not in card.task:
        raise ValueError(f"{card.task[BY]} is {value!r}, and the card's `task` says nothing of that")
    return card.task[value]


def options_of(card: Card, row: Mapping[str, Any]) -> list[str]:
    """The options in order. Of options in columns of their own, absent ones are left out at the end."""
    if card.options_in:
        return listed_in(str(row[card.options_in]))
    if isinstance(card.options, str):
        return [str(option) for option in value_of(card, row, card.options)] if card.options else []
    options = [str(row[column]) for column in card.options if row[column] not in ABSENT]
    for column in card.options[: len(options)]:
        if row[column] in ABSENT:
            raise ValueError(f"option {column} is absent, and one after it is not: its letter would be another's")
    return options


def value_of(card: Card, row: Mapping[str, Any], column: str) -> Any:
    """What a column holds, read as a list where the card says that it is the text of one."""
    value = row[column]
    if column not in card.python_lists or not str(value).startswith("["):
        return value
    try:
        return literal_eval(str(value))
    except (ValueError, SyntaxError):
        raise ValueError(f"{column} is {value!r}, which is no Python list") from None


def listed_in(text: str) -> list[str]:
    """The options that a text lists under A, B and so on; none if it does not list at least two."""
    for first in reversed(list(re.finditer(MARKER.format("A"), text, re.MULTILINE))):
        if options := _from(text, first):
            return options
    return []


def _from(text: str, marker: re.Match[str]) -> list[str]:
    """The options from the marker of the first on; the last ends with its line."""
    options = []
    for letter in LETTERS[1:]:
        after = re.compile(MARKER.format(letter), re.MULTILINE).search(text, marker.end())
        if after is None:
            break
        options.append(text[marker.end() : after.start()].strip().removesuffix(","))
        marker = after
    return [*options, text[marker.end() :].partition("\n")[0].strip()] if options else []
