"""A table as text: CSV, TSV or JSON lines, with a column of paths to images that start at the file's own folder."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from lofi.data.registry import Card
from lofi.data.source import Entry, Row, Source, lacking
from lofi.errors import UserError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
LINES = (".jsonl", ".ndjson")
FORMATS = (*DELIMITERS, *LINES)

Reader = Callable[[Path, Sequence[str]], Iterator[Entry]]


def open_text_file(card: Card, path: Path) -> Source:
    """The one table of a file, whatever config and split the card names."""
    if path.suffix not in FORMATS:
        raise UserError(f"{path} is no table that lofi reads; give a folder, or a file in {', '.join(FORMATS)}")
    if card.join:
        raise UserError(f"dataset {card.name} joins two tables, and {path} is one; give a folder that holds both")
    read = _json_lines if path.suffix in LINES else _separated
    return Source(str(path), "", path.resolve().parent, {(card.config, card.split): partial(_rows, read, path)})


def _rows(read: Reader, path: Path, columns: Sequence[str]) -> Iterator[Entry]:
    try:
        yield from read(path, columns)
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{path} is not well-formed ({error}); check its quotes") from None


def _separated(path: Path, columns: Sequence[str]) -> Iterator[Entry]:
    """The first line names the columns; a value may run over several lines where it is quoted."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=DELIMITERS[path.suffix], strict=True)
        names = next(reader, [])
        if error := lacking(str(path), columns, names):
            raise error
        number, line = 0, reader.line_num + 1
        for fields in reader:
            if fields:  # not an empty line
                wrong = "" if len(fields) == len(names) else f"{len(fields)} values under {len(names)} columns"
                values = dict(zip(names, fields, strict=False))
                yield _entry(number, line, columns, values, wrong)
                number += 1
            line = reader.line_num + 1


def _json_lines(path: Path, columns: Sequence[str]) -> Iterator[Entry]:
    """One object a line."""
    with path.open(encoding="utf-8-sig") as file:
        number = 0
        for line, text in enumerate(file, start=1):
            if text.strip():
                values, wrong = _parse(text)
                yield _entry(number, line, columns, values, wrong)
                number += 1


def _parse(text: str) -> tuple[Row, str]:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        return {}, f"not valid JSON: {error.msg} at character {error.pos}"
    return (values, "") if isinstance(values, dict) else ({}, f"{type(values).__name__} instead of an object")


def _entry(number: int, line: int, columns: Sequence[str], values: Row, wrong: str) -> Entry:
    """A row with the columns asked for, or with what is wrong."""
    if not wrong and (missing := [column for column in columns if column not in values]):
        wrong = f"it lacks {', '.join(missing)}"
    return Entry(number, f"line {line}", {} if wrong else {column: values[column] for column in columns}, wrong)
