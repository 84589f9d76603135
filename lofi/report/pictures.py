"""Small copies of the images that the report may show."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

SIDE = 192  # pixels of the longer side
QUALITY = 88
BATCH = 64  # images in memory at once


@dataclass(frozen=True)
class Picture:
    """A JPEG, and its size in pixels."""

    content: bytes
    width: int
    height: int


def pictures(path: Path, wanted: Sequence[str]) -> Iterator[tuple[str, Picture]]:
    """The hash and small copy of each image wanted, out of a Parquet file of images; broken ones are left out."""
    if not path.is_file() or not wanted:
        return
    with duckdb.connect() as connection:
        connection.execute("SET memory_limit = '1GB'")
        connection.register("wanted", pa.table({"image_hash": pa.array(wanted, pa.string())}))
        query = "SELECT image_hash, bytes FROM read_parquet(?) SEMI JOIN wanted USING (image_hash)"
        result = connection.execute(query, [str(path)])
        while batch := result.fetchmany(BATCH):
            for name, encoded in batch:
                if small := picture(encoded):
                    yield name, small


def picture(encoded: bytes | None) -> Picture | None:
    """A small copy, made again from the pixels so that nothing else travels with it; None of what is no image."""
    from PIL import Image, ImageOps

    if not encoded:
        return None
    try:
        with Image.open(io.BytesIO(encoded)) as opened:
            small = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    small.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=QUALITY)
    return Picture(buffer.getvalue(), *small.size)
