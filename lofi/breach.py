"""The config against its JSON schema: the first breach, as one line that names value, rule and fix."""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from lofi.errors import UserError, unknown

SCHEMA = Path(__file__).parent.parent / "workflow" / "schemas" / "config.schema.yaml"
SHOWN = 60  # characters of a wrong value that a message repeats
MOST_LEVELS = 20  # of mappings and lists in each other; the schema has 4


def check_schema(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config as plain dicts and lists, or an error for the first place that breaks the schema."""
    plain = _plain(config, ())
    errors = sorted(_validator().iter_errors(plain), key=lambda error: _depth_first(plain, error))
    if errors:
        raise _in_words(errors[0])
    result: dict[str, Any] = plain
    return result


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(yaml.safe_load(SCHEMA.read_text(encoding="utf-8")))


def _plain(value: Any, path: tuple[object, ...]) -> Any:
    """Mappings as dicts with text keys. YAML reads keys such as 1, no or null as something else."""
    if len(path) > MOST_LEVELS:
        raise UserError(f"{_place(path[:2])} is nested more than {MOST_LEVELS} levels deep; a config has a few")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise UserError(f"key {key!r} in {_place(path)} is not text; put it in quotes or rename it")
        return {key: _plain(entry, (*path, key)) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry, (*path, index)) for index, entry in enumerate(value)]
    return value


def _depth_first(config: Any, error: ValidationError) -> tuple[int, ...]:
    """Where an error stands in the file, so that the topmost mistake is told first."""
    order = []
    for step in error.absolute_path:
        order.append(list(config).index(step) if isinstance(config, dict) else int(step))
        config = config[step]
    return tuple(order)


def _in_words(error: ValidationError) -> UserError:
    place, instance = _place(error.absolute_path), cast(Any, error.instance)
    rule = cast(dict[str, Any], error.schema)
    if error.validator == "additionalProperties":
        extra = next(key for key in instance if key not in rule["properties"])
        return unknown(f"key in {place}", extra, rule["properties"])
    if error.validator == "required":
        missing = next(key for key in rule["required"] if key not in instance)
        return UserError(f"{place} has no {missing!r}; add {rule['properties'][missing]['description']}")
    if error.validator == "enum" and isinstance(instance, str):
        return unknown(f"value of {place}", instance, rule["enum"])
    return UserError(f"{place} {_shown(instance)} is not allowed; use {rule['description']}")


def _place(path: Iterable[object]) -> str:
    """`models.digits-llava.dtype`, `keeps[2]` (counted from 1, as people count)."""
    text = ""
    for step in path:
        text += f"[{step + 1}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".") or "the config"


def _shown(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
