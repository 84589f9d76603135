"""The rows of a dataset, each with the hashes of what it shows; every distinct image is handed over once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lofi.data.digest import digest, digest_values
from lofi.data.images import Encoded, inspect
from lofi.data.registry import Card, Join
from lofi.data.shown import shown
from lofi.data.source import Entry, Source
from lofi.errors import UserError

KeepImage = Callable[[Encoded], None]


@dataclass(frozen=True)
class Reading:
    """One row, its images taken out of it. A row that could not be read has no more than its entry."""

    entry: Entry
    hashes: tuple[str, ...] = ()
    rank: int = 0  # of what it shows, by first appearance
    error: str | None = None  # why the question cannot be asked, where that is not an image's own fault

    @property
    def image_hash(self) -> str:
        """One hash for all that the row shows."""
        return _one(self.hashes)


def readings(
    source: Source, card: Card, keep: KeepImage, *, exif: str = "ignored", limit: int = 0
) -> Iterator[Reading]:
    """The rows about the first `limit` images (0: all), in order; `keep` is given each distinct image once.

    Images are never collected: of one that was seen, its hash stays.
    """
    gallery = _Gallery(keep, exif, limit)
    joined = _join(source, card, card.join, gallery) if card.join else None
    for entry in source.rows(card, card.columns):
        if entry.error:
            yield Reading(entry)
            continue
        if joined is not None:
            hashes, error = joined.of(entry)
        else:
            images = shown([entry.values.pop(column) for column in card.images], source.locate)
            hashes, error = gallery.take(images.contents), images.error
        if hashes:
            yield Reading(entry, hashes, gallery.ranks[_one(hashes)], error)
        elif card.grouped:
            return


def _one(hashes: Sequence[str]) -> str:
    return hashes[0] if len(hashes) == 1 else digest_values(list(hashes))


class _Gallery:
    """What was seen so far; what comes first after `limit` is refused."""

    def __init__(self, keep: KeepImage, exif: str, limit: int) -> None:
        self.ranks: dict[str, int] = {}
        self._keep, self._exif, self._limit = keep, exif, limit
        self._kept: set[str] = set()

    def take(self, contents: Sequence[bytes]) -> tuple[str, ...]:
        """The hashes of what one row shows; none if that is beyond the limit."""
        hashes = tuple(map(digest, contents))
        key = _one(hashes)
        if key not in self.ranks:
            if self._limit and len(self.ranks) == self._limit:
                return ()
            self.ranks[key] = len(self.ranks)
            for image_hash, content in zip(hashes, contents, strict=True):
                if image_hash not in self._kept:
                    self._kept.add(image_hash)
                    self._keep(inspect(content, exif=self._exif))
        return hashes


class _Joined:
    """Images of a second table by their keys: the hashes only; an empty one is of an image beyond the limit."""

    def __init__(self, join: Join, gallery: _Gallery, found: dict[str, tuple[str, ...]]) -> None:
        self._join, self._gallery, self._found = join, gallery, found

    def of(self, entry: Entry) -> tuple[tuple[str, ...], str | None]:
        """The hashes of a row, and why there is no image."""
        key = str(entry.values[self._join.on])
        if key in self._found:
            return self._found[key], None
        table = f"{self._join.config}, split {self._join.split}"
        return self._gallery.take([b""]), f"no row of {table} has {self._join.key} {key!r}"


def _join(source: Source, card: Card, join: Join, gallery: _Gallery) -> _Joined:
    """Read the second table once, for the images that rows ask about, in its own order."""
    asked = {str(entry.values[join.on]) for entry in source.rows(card, [join.on]) if not entry.error}
    found: dict[str, tuple[str, ...]] = {}
    for entry in source.joined(card):
        key = str(entry.values[join.key])
        if key not in asked:
            continue
        if key in found:
            raise UserError(
                f"dataset {card.name}: {join.config}, {entry.place}: {join.key} {key!r} comes a second time; "
                "keep one row of it"
            )
        found[key] = gallery.take(shown([entry.values[join.image]], source.locate).contents)
    return _Joined(join, gallery, found)
