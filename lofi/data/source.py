"""Where the rows of a dataset are read from: a folder in the hub's format, the hub itself, or one table with paths."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lofi.data.registry import FILES, Card
from lofi.errors import UserError

DEFAULT_GENERATED_IMAGES = 300
HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?(@\S+)?")

Row = dict[str, Any]
Part = tuple[str | None, str]  # config and split


@dataclass(frozen=True)
class Entry:
    """One row as it stands in the source. `error` says why it could not be read."""

    number: int  # from 0
    place: str  # how a reader finds it: row 3, line 5
    values: Row
    error: str = ""


Table = Callable[[Sequence[str]], Iterator[Entry]]  # the rows, of these columns only, in order


@dataclass(frozen=True)
class Source:
    """A dataset that lies on this machine: its tables, one for each config and split that the card names."""

    place: str
    revision: str  # the commit, of what came from the hub
    folder: Path  # where the paths of its images start
    tables: Mapping[Part, Table]

    def rows(self, card: Card, columns: Sequence[str]) -> Iterator[Entry]:
        """The rows that the card's `where` takes, with no other columns than these."""
        wanted = list(dict.fromkeys([*columns, *card.where]))
        for entry in self._read(card, (card.config, card.split), wanted):
            if not entry.error:
                if any(str(entry.values[column]) not in values for column, values in card.where.items()):
                    continue
                for column in set(wanted) - set(columns):
                    del entry.values[column]
            yield entry

    def locate(self, path: str) -> Path:
        """The file of an image; a path that is not absolute starts at the folder.

        A table of the user's own may name any file. One that came from elsewhere must not: whatever it names is
        copied into the results.
        """
        named = PurePosixPath(path)
        if self.revision and (named.is_absolute() or ".." in named.parts):
            raise ValueError("a dataset of the hub may only name files of its own")
        return self.folder / path

    def joined(self, card: Card) -> Iterator[Entry]:
        """The rows of the second table, which holds the images."""
        if card.join is None:
            raise ValueError(f"dataset {card.name} has no second table")
        return self._read(card, (card.join.config, card.join.split), [card.join.key, card.join.image])

    def _read(self, card: Card, part: Part, columns: Sequence[str]) -> Iterator[Entry]:
        try:
            yield from self.tables[part](columns)
        except (OSError, ValueError) as error:
            raise unreadable(card, self.place, error) from error


def parts_of(card: Card) -> list[Part]:
    """The tables that a card needs."""
    return [(card.config, card.split), *([(card.join.config, card.join.split)] if card.join else [])]


def unreadable(card: Card, place: str, error: Exception) -> UserError:
    """The error of a dataset that cannot be read."""
    return UserError(
        f"cannot read dataset {card.name} from {place}: {' '.join(str(error).split())}; check its source, or "
        "download it where there is a network and give the folder as `source`"
    )


def lacking(place: str, columns: Sequence[str], names: Sequence[str]) -> UserError | None:
    """The error of a table without some of these columns, if it is one."""
    missing = [column for column in columns if column not in names]
    if not missing:
        return None
    return UserError(
        f"{place} lacks the columns {', '.join(missing)}; it has {', '.join(names)}; correct the card's `columns`"
    )


def open_source(card: Card, source: str | None, out: Path, *, limit: int = 0) -> Source:
    """The dataset of a card, on this machine once this returns; `source` overrides the card's.

    A built-in dataset is made first, with `limit` images, in the folder `out`. A hub id given here may be
    `id@revision`; the card's own names of the hub are tried in their order.
    """
    from lofi.data.folder import open_folder

    ours = source is None or source in (card.source, *card.aliases)
    if ours and card.generated:
        from lofi.data.digits.folder import write_folder

        write_folder(card.generated, out / "source", n_images=limit or DEFAULT_GENERATED_IMAGES)
        return open_folder(card, out / "source")
    path = Path(source or card.source)
    if path.is_dir():
        return open_folder(card, path)
    if path.is_file():
        from lofi.data.textfile import open_text_file

        return open_text_file(card, path)
    if path.name.endswith(FILES) or not HUB_ID.fullmatch(str(path)):
        raise UserError(
            f"dataset {card.name}: {path} is no folder or file here, and no hub id; correct `source`, which is "
            "relative to the card's own folder, or make it owner/name"
        )
    from lofi.data.fetch import open_hub

    if ours:
        return open_hub(card, (card.source, *card.aliases), card.revision)
    place, _, revision = str(source).partition("@")
    return open_hub(card, (place,), revision)
