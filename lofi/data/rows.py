"""What one row of a dataset says, by its card: the right answer, all accepted answers, the category."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lofi.data.prompts import value_of
from lofi.data.registry import Card
from lofi.data.templates import LETTERS

YES_NO = ("yes", "no")
# HallusionBench writes its answers as digits.
_TRUTHS = {"yes": "yes", "no": "no", "1": "yes", "0": "no"}


def labels_of(task: str, options: Sequence[str], letters: Sequence[str] = ()) -> list[str]:
    """What may be answered: yes and no, a letter per option (or `letters` where none is known), or nothing."""
    if task == "yesno":
        return list(YES_NO)
    return list(LETTERS[: len(options)] or letters) if task == "mcq" else []


def answer_of(card: Card, row: Mapping[str, Any]) -> str:
    """The answer as the row has it; of a list of answers the most frequent, and the first of equals."""
    answers = _texts(value_of(card, row, card.target))
    if not answers:
        raise ValueError(f"{card.target} lists no answer")
    return Counter(answers).most_common(1)[0][0]


def target_of(value: str, task: str, labels: list[str]) -> str:
    """The right answer, as the scorer wants it: a label, or a text where there are none."""
    if task == "open":
        return value
    bare = value.strip()
    if task == "yesno":
        label = _TRUTHS.get(bare.lower())
    elif bare.isascii() and bare.isdigit():
        label = labels[int(bare)] if int(bare) < len(labels) else None
    else:
        label = bare if bare in labels else None
    if label is None:
        raise ValueError(f"the answer {value!r} is none of {', '.join(labels) or 'no options'}")
    return label


def targets_of(card: Card, row: Mapping[str, Any], target: str) -> list[str]:
    """All accepted answers."""
    return _texts(value_of(card, row, card.targets)) if card.targets else [target]


def _texts(value: Any) -> list[str]:
    """Datasets give one text, or list texts, or records with a text in `answer`."""
    values = value if isinstance(value, list | tuple) else [value]
    return [str(each["answer"]) if isinstance(each, Mapping) else str(each) for each in values]


def category_of(row: Mapping[str, Any], column: str) -> str | None:
    """The category in `column`, if the card names a column and the row fills it."""
    value = row[column] if column else None
    return None if value is None else str(value)
