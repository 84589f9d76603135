"""Read YAML or JSON that says everything once: a key given twice is an error, not the last one's win.

A file may come from somebody else: it makes no objects, no more values than a sweep needs, and holds no passwords.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from lofi.credentials import refuse_credentials
from lofi.errors import UserError

MERGE = "tag:yaml.org,2002:merge"
MOST_BYTES = 1_000_000
MOST_VALUES = 100_000  # aliases written out
DEEP = "it is nested too deeply; a config or a card has a few levels"
SWEEP = "a mapping with the keys models, datasets, methods and keeps"
SHOWN = 60  # characters of a wrong value that a message repeats
# What a tag's own reader may raise: it takes its text on trust.
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)


def read_mapping(path: Path, what: str = SWEEP) -> Mapping[str, Any]:
    """The mapping in a YAML file, or in a JSON file where the name ends in .json; `what` it must be, in words."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UserError(f"{path} is larger than {MOST_BYTES:,} bytes; give the path of a config or a card")
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; give the path of a YAML file") from None
    except ValueError as error:  # of a name that no file can have
        raise UserError(f"{str(path)!r} cannot be read: {error}; give the path of a YAML file") from None
    for number, line in enumerate(text.splitlines(), start=1):
        refuse_credentials(line, f"{path}: line {number}")
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
        refuse_credentials(entry, f"--config {key}")
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
        except ValueError as error:  # a number of thousands of digits
            raise UserError(f"not valid JSON: {error}") from None
        except RecursionError:
            raise UserError(DEEP) from None
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        fix = "check indentation, quotes and brackets"
        raise UserError(f"{line}not valid YAML: {error.problem}; {fix}") from None
    except yaml.YAMLError as error:
        raise UserError(f"not valid YAML: {' '.join(str(error).split())}") from None
    except UNREADABLE as error:  # !!map on a text
        raise UserError(f"not valid YAML: {error}; check its tags") from None
    except RecursionError:
        raise UserError(DEEP) from None


class _StrictLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, and aliases that stand for more than anybody writes."""

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None and _written_out(node, {}, set()) > MOST_VALUES:
            raise UserError(f"its aliases stand for more than {MOST_VALUES:,} values; write out what is meant")
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except UNREADABLE:  # a date that is none, a number of thousands of digits, a tag on what it is not
            kind, line = node.tag.rpartition(":")[2], node.start_mark.line + 1
            text = repr(node.value)[:SHOWN] if isinstance(node, yaml.ScalarNode) else f"a {node.id}"
            raise UserError(
                f"line {line}: not valid YAML: {text} is read as {kind}, and is none; put it in quotes, or correct it"
            ) from None

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


def _written_out(node: Any, sizes: dict[int, int], above: set[int]) -> int:
    """How many values a node has once its aliases are written out."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in above:
        raise UserError(
            f"line {node.start_mark.line + 1}: an alias stands inside its own anchor; write out what is meant"
        )
    if id(node) not in sizes:
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        sizes[id(node)] = 1 + sum(_written_out(part, sizes, {*above, id(node)}) for part in parts)
    return sizes[id(node)]


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for key, value in pairs:
        if key in entries:
            raise UserError(f"key {key!r} is given twice in one object; remove one")
        entries[key] = value
    return entries
