"""Read YAML or JSON that says everything once: a key given twice is an error, not the last one's win."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from lofi.errors import UserError

MERGE = "tag:yaml.org,2002:merge"
SWEEP = "a mapping with the keys models, datasets, methods and keeps"


def read_mapping(path: Path, what: str = SWEEP) -> Mapping[str, Any]:
    """The mapping in a YAML file, or in a JSON file where the name ends in .json; `what` it must be, in words."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; give the path of a YAML file") from None
    try:
        entries = _parse(text, is_json=path.suffix == ".json")
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if not isinstance(entries, Mapping):
        found = "is empty" if entries is None else f"holds {type(entries).__name__} at its top"
        raise UserError(f"{path} {found}; it must be {what}")
    return entries


def read_overrides(entries: Iterable[str]) -> dict[str, Any]:
    """The values of `key=value` texts, such as Snakemake's --config takes, each value read as YAML.

    Snakemake itself leaves numbers inside lists and mappings as text.
    """
    overrides = {}
    for entry in entries:
        key, _, text = entry.partition("=")
        try:
            overrides[key] = _parse(text, is_json=False)
        except UserError as error:
            raise UserError(f"--config {key}: {error}") from None
    return overrides


def _parse(text: str, *, is_json: bool) -> Any:
    if is_json:
        try:
            return json.loads(text, object_pairs_hook=_unique_pairs)
        except json.JSONDecodeError as error:
            raise UserError(f"line {error.lineno}: not valid JSON: {error.msg}") from None
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        fix = "check indentation, quotes and brackets"
        raise UserError(f"{line}not valid YAML: {error.problem}; {fix}") from None
    except yaml.YAMLError as error:
        raise UserError(f"not valid YAML: {' '.join(str(error).split())}") from None


class _StrictLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == MERGE:
                continue
            key, line = self.construct_object(key_node), key_node.start_mark.line + 1
            if key in lines:
                raise UserError(f"line {line}: key {key!r} is given twice, first in line {lines[key]}; remove one")
            lines[key] = line
        return super().construct_mapping(node, deep)


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for key, value in pairs:
        if key in entries:
            raise UserError(f"key {key!r} is given twice in one object; remove one")
        entries[key] = value
    return entries
