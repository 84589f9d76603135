"""Prompts: one template per dataset and style, filled from a row. Pure functions on strings.

A template is text with fields. `{question}` is the row's column of that name as it stands; `{question:strip}`
is the same through a builder, one of the few in `BUILDERS`; `{options}` is the list of options wherever the
dataset keeps them. A dataset that needs a new layout needs a line of YAML and at most one builder.
"""

from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from typing import Any

from lofi.data.registry import BY, Card
from lofi.errors import UserError

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
ABSENT = (None, "", "nan")  # how datasets write a hint or an option that is not there


def render(card: Card, style: str, row: Mapping[str, Any]) -> str:
    """The text a model is asked: what stands after the image in the user's turn."""
    return fill(card.template(style, task_of(card, row)), {**row, "options": options_of(card, row)})


def task_of(card: Card, row: Mapping[str, Any]) -> str:
    """Whether a row is answered by yes or no, by a letter, or by a text."""
    if isinstance(card.task, str):
        return card.task
    value = str(row[card.task[BY]])
    if value not in card.task:
        raise ValueError(f"{card.task[BY]} is {value!r}, and the card's `task` says nothing of that")
    return card.task[value]


def fill(template: str, fields: Mapping[str, Any]) -> str:
    """A template with its fields filled in."""
    try:
        return _TEMPLATE.vformat(template, (), fields)
    except KeyError as missing:
        raise UserError(
            f"template {template!r} names {missing}, which the row lacks; it has {', '.join(fields)}"
        ) from None


def options_of(card: Card, row: Mapping[str, Any]) -> list[str]:
    """The options in order. Of options in columns of their own, absent ones are left out."""
    if isinstance(card.options, str):
        return [str(option) for option in row[card.options]]
    return [str(row[column]) for column in card.options if row[column] not in ABSENT]


def strip(value: str) -> str:
    """Without the white space around it."""
    return value.strip()


def lettered(options: Sequence[str]) -> str:
    """One line per option: `A. red`."""
    if len(options) > len(LETTERS):
        raise ValueError(f"{len(options)} options are more than there are letters")
    return "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))


def context(hint: str | None) -> str:
    """A line that gives the passage to read first, or nothing."""
    return "" if hint in ABSENT else f"Context: {hint}\n"


BUILDERS: dict[str, Callable[[Any], str]] = {"strip": strip, "lettered": lettered, "context": context}


class _Template(Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        build = BUILDERS.get(format_spec)
        return build(value) if build else str(super().format_field(value, format_spec))


_TEMPLATE = _Template()
