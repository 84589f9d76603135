"""Images: encoded bytes in and out of one Parquet file, and the one way they are decoded."""

import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from lofi.data.digest import digest
from lofi.errors import UserError
from lofi.store import replacing, stamp

IMAGES = pa.schema(
    [
        ("image_hash", pa.string()),
        ("bytes", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("format", pa.string()),
        ("mode", pa.string()),
        ("error", pa.string()),
    ]
)
# What a reader must load to get at one image.
ROW_GROUP_BYTES = 16 * 2**20
ROW_GROUP_IMAGES = 256


@dataclass(frozen=True)
class Encoded:
    """One distinct image as the dataset stores it; `error` says why it cannot be shown to a model."""

    image_hash: str
    bytes: bytes
    width: int | None = None
    height: int | None = None
    format: str | None = None
    mode: str | None = None
    error: str | None = None


def open_image(content: bytes) -> Image.Image:
    """The picture in RGB, as LLaVA's own loader decodes it: without the rotation that EXIF may ask for."""
    image: Image.Image = Image.open(io.BytesIO(content))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the same colours; a direct conversion warns
    return image.convert("RGB")


def inspect(content: bytes) -> Encoded:
    """What an image is, found by decoding all of it; or why that failed."""
    image_hash = digest(content)
    if not content:
        return Encoded(image_hash, content, error="the row has no image")
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            return Encoded(image_hash, content, image.width, image.height, image.format, image.mode)
    except Exception as error:  # Pillow's decoders raise whatever they stumble over
        return Encoded(image_hash, content, error=f"{type(error).__name__}: {_one_line(error)}")


def _one_line(error: Exception) -> str:
    # Pillow names the buffer by its address, which would differ from run to run.
    return "cannot identify image file" if "cannot identify" in str(error) else " ".join(str(error).split())


@contextmanager
def image_writer(path: Path, metadata: Mapping[str, Any]) -> Iterator["ImageWriter"]:
    """Write images one by one in bounded memory. The file appears when the block ends without an error."""
    # Encoded images do not compress further, and their values never repeat.
    plain = {"compression": "none", "use_dictionary": False, "write_statistics": ["image_hash"]}
    schema = IMAGES.with_metadata(stamp(metadata))
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, **plain) as file:
        writer = ImageWriter(file)
        yield writer
        writer.flush()


class ImageWriter:
    """Collects images into row groups that are cheap to read one image from."""

    def __init__(self, file: pq.ParquetWriter) -> None:
        self._file = file
        self._pending: list[Encoded] = []
        self._size = 0

    def add(self, image: Encoded) -> None:
        """Take one image, which must not have been added before."""
        self._pending.append(image)
        self._size += len(image.bytes)
        if self._size >= ROW_GROUP_BYTES or len(self._pending) >= ROW_GROUP_IMAGES:
            self.flush()

    def flush(self) -> None:
        """Write what is pending."""
        if self._pending:
            self._file.write_table(pa.Table.from_pylist([asdict(image) for image in self._pending], schema=IMAGES))
        self._pending, self._size = [], 0


def read_bytes(path: Path, hashes: Iterable[str]) -> dict[str, bytes]:
    """The encoded bytes of the images asked for, from only those row groups that hold them."""
    wanted = set(hashes)
    found: dict[str, bytes] = {}
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            here = file.read_row_group(group, columns=["image_hash"]).column("image_hash").to_pylist()
            if wanted.isdisjoint(here):
                continue
            contents = file.read_row_group(group, columns=["bytes"]).column("bytes")
            found |= {key: contents[at].as_py() for at, key in enumerate(here) if key in wanted}
    if missing := sorted(wanted - found.keys()):
        raise UserError(f"{path} lacks {len(missing)} of {len(wanted)} images, {missing[0]} first; prepare it again")
    return found
