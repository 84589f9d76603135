"""What one row of a dataset says, by its card: the options, the right answer, and all accepted answers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lofi.data.prompts import LETTERS
from lofi.data.registry import Card

YES_NO = ("yes", "no")
# HallusionBench writes its answers as digits.
_TRUTHS = {"yes": "yes", "no": "no", "1": "yes", "0": "no"}


def labels_of(task: str, options: list[str]) -> list[str]:
    """What may be answered: yes and no, one letter per option, or nothing in particular."""
    if task == "yesno":
        return list(YES_NO)
    return list(LETTERS[: len(options)]) if task == "mcq" else []


def target_of(value: str, task: str, labels: list[str]) -> str:
    """The right answer, as the scorer wants it: a label, or a text where there are none."""
    if task == "open":
        return value
    if task == "yesno":
        label = _TRUTHS.get(value.strip().lower())
    elif value.isascii() and value.isdigit():
        label = labels[int(value)] if int(value) < len(labels) else None
    else:
        label = value if value in labels else None
    if label is None:
        raise ValueError(f"the answer {value!r} is none of {', '.join(labels) or 'no options'}")
    return label


def targets_of(card: Card, row: Mapping[str, Any], target: str) -> list[str]:
    """All accepted answers. Datasets list them as texts, or as records with a text in `answer`."""
    if not card.targets:
        return [target]
    return [str(each["answer"]) if isinstance(each, Mapping) else str(each) for each in row[card.targets]]


def category_of(row: Mapping[str, Any], column: str) -> str | None:
    """The category in `column`, if the card names a column and the row fills it."""
    value = row[column] if column else None
    return None if value is None else str(value)


def image_bytes(value: Any) -> bytes:
    """The encoded image of a row, nothing decoded; empty where there is none."""
    if value is None:
        return b""
    if content := value.get("bytes"):
        return bytes(content)
    try:
        return Path(value["path"]).read_bytes() if value.get("path") else b""
    except OSError:
        return b""
