"""One checksum over all bytes of a Parquet file, in its own footer: whether it changed is known without decoding it.

Parquet has checksums of pages, but none of the headers before them and none of the footer.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

KEY = b"lofi_crc32"
BLANK = b"........"  # where the checksum will stand: it is that of the file with this in its place
HEADER = 2  # bytes between a key and its value: what kind of field it is, and its length
TAIL = 8  # bytes behind the footer: its length and four letters
PIECE = 1 << 20  # bytes that are read at once


@contextmanager
def sealing(path: Path, schema: pa.Schema, **options: Any) -> Iterator[pq.ParquetWriter]:
    """A writer of `path`; after the block the file is closed and has its checksum."""
    with pq.ParquetWriter(path, schema, **options) as writer:
        yield writer
        writer.add_key_value_metadata({KEY: BLANK})
    with path.open("rb+") as file:
        at = _place(file)
        assert at is not None  # it was written above
        found = _checksum(file, at)
        file.seek(at)
        file.write(found)


def is_whole(path: Path) -> bool | None:
    """Whether every byte is as it was written; None where nobody knows, because the file has no checksum."""
    with path.open("rb") as file:
        if (at := _place(file)) is None:
            return None
        file.seek(at)
        return file.read(len(BLANK)) == _checksum(file, at)


def _place(file: BinaryIO) -> int | None:
    """Where the checksum stands in the file, if it has one."""
    size = file.seek(0, 2)
    file.seek(max(0, size - TAIL))
    start = max(0, size - TAIL - int.from_bytes(file.read(4), "little"))
    file.seek(start)
    found = file.read().rfind(KEY)
    return None if found < 0 else start + found + len(KEY) + HEADER


def _checksum(file: BinaryIO, at: int) -> bytes:
    """Of the whole file with a blank at this place."""
    file.seek(0)
    found, before = 0, at
    while before and (piece := file.read(min(before, PIECE))):
        found, before = zlib.crc32(piece, found), before - len(piece)
    found = zlib.crc32(BLANK, found)
    file.seek(at + len(BLANK))
    return b"%08x" % zlib.crc32(file.read(), found)
