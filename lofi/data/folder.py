"""Datasets in the hub's format, as a folder or as what was fetched of one: read row group by row group."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lofi.data.registry import Card
from lofi.data.source import Entry, Part, Source, Table, lacking, parts_of, unreadable


def open_folder(card: Card, folder: Path) -> Source:
    """The card's tables in a folder."""
    place = str(folder)
    try:
        builders = {part: open_builder(str(folder.resolve()), part) for part in parts_of(card)}
    except (OSError, ValueError) as error:
        raise unreadable(card, place, error) from error
    return Source(place, "", folder.resolve(), tables_of(place, builders))


def open_builder(place: str, part: Part, revision: str = "") -> Any:
    """The reader that `datasets` has for a config; nothing of its data is read or downloaded yet."""
    import datasets

    datasets.config.TORCH_AVAILABLE = False  # else it imports torch, to share a counter with torch's own loaders
    config, split = part
    with TemporaryDirectory() as scratch:  # where it would convert to; a stream leaves it empty
        try:
            builder = datasets.load_dataset_builder(place, config, revision=revision or None, cache_dir=scratch)
        except RuntimeError as error:
            if "Dataset scripts" not in str(error):
                raise
            raise ValueError("it is a script, and no code of a dataset is run; convert it to Parquet") from None
    splits = [str(each) for each in builder.config.data_files]
    if split not in splits:
        raise ValueError(f"there is no split {split!r}, only {', '.join(splits)}")
    return builder


def tables_of(place: str, builders: Mapping[Part, Any]) -> dict[Part, Table]:
    """The tables behind builders whose files are on this machine."""

    def table(part: Part) -> Table:
        return lambda columns: _stream(place, builders[part], part[1], columns)

    return {part: table(part) for part in builders}


def _stream(place: str, builder: Any, split: str, columns: Sequence[str]) -> Iterator[Entry]:
    """The rows in order, images still encoded, never more than a row group in memory."""
    stream = builder.as_streaming_dataset(split=split).decode(False)
    if error := lacking(place, columns, stream.column_names or []):
        raise error
    # By row groups: within one shard Arrow reads ahead, up to a gigabyte of it.
    for number, row in enumerate(stream.reshard().select_columns(list(columns))):
        yield Entry(number, f"row {number}", row)
