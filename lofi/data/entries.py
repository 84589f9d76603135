"""The entries of a card's YAML: each of its own form, lists frozen, one line for what is wrong."""

from collections.abc import Callable, Mapping
from typing import Any

from lofi.errors import UserError


def frozen(name: str, entries: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of dataset `name`, which are all known by name, with tuples for lists."""
    checked = {}
    for key, value in entries.items():
        form, holds, freeze = FORMS[FORM_OF[key]]
        if not holds(value):
            raise UserError(f"dataset {name}: {key} is {value!r}; it must be {form}")
        checked[key] = freeze(value)
    return checked


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(_text, value))


def _named_texts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(_text(key) and _text(each) for key, each in value.items())


def _prompts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(_text(key) and (_text(v) or _named_texts(v)) for key, v in value.items())


def _where(value: Any) -> bool:
    return isinstance(value, Mapping) and all(_text(key) and _texts(each) and each for key, each in value.items())


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _same(value: Any) -> Any:
    return value


def _tuple_of_list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


# What it must be in words, whether a value is that, and how it is frozen.
FORMS: dict[str, tuple[str, Callable[[Any], bool], Callable[[Any], Any]]] = {
    "text": ("a text; put numbers and yes or no in quotes", _text, _same),
    "text or nothing": ("a text, or null", lambda value: value is None or _text(value), _same),
    "texts": ("a list of texts, such as [a, b]", _texts, tuple),
    "column or columns": (
        "the name of a column, or a list of names",
        lambda value: _text(value) or _texts(value),
        _tuple_of_list,
    ),
    "text or by name": (
        "a text, or a mapping of texts to texts",
        lambda value: _text(value) or _named_texts(value),
        _same,
    ),
    "prompts": (
        "a mapping of prompt styles to templates, where tasks differ to a mapping of tasks to templates",
        _prompts,
        _same,
    ),
    "where": (
        "a mapping of columns to lists of texts, such as {data_type: [image]}",
        _where,
        lambda value: {column: tuple(values) for column, values in value.items()},
    ),
    "join": (
        'a mapping with the texts config, split, "on" (in quotes: YAML reads on as true), key and image, and no others',
        lambda value: _named_texts(value) and sorted(value) == ["config", "image", "key", "on", "split"],
        _same,
    ),
    "count": ("a whole number, at least 0", _count, _same),
    "flag": ("true or false", lambda value: isinstance(value, bool), _same),
}
_TEXT = (
    "title source split question target sample_id text licence revision options_in targets category l2_category"
    " group figure cluster"
)
FORM_OF: dict[str, str] = {
    **dict.fromkeys(_TEXT.split(), "text"),
    **dict.fromkeys(("columns", "aliases", "metrics", "traps", "python_lists", "letters"), "texts"),
    **dict.fromkeys(("image", "options"), "column or columns"),
    **dict.fromkeys(("task", "scorer"), "text or by name"),
    **dict.fromkeys(("max_new_tokens", "n_questions", "n_images"), "count"),
    "config": "text or nothing",
    "prompts": "prompts",
    "where": "where",
    "join": "join",
    "grouped": "flag",
}
