"""Images: encoded bytes in and out of one Parquet file, and the one way they are decoded."""

import io
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from lofi.data.digest import digest
from lofi.errors import UserError
from lofi.store import METADATA_KEY

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


class ImageWriter:
    """Writes images one by one in bounded memory. The file appears only when `finish` was reached."""

    def __init__(self, path: Path, metadata: Mapping[str, Any]) -> None:
        self.path = path
        self._schema = IMAGES.with_metadata({METADATA_KEY: json.dumps(dict(metadata), sort_keys=True)})
        self._pending: list[Encoded] = []
        self._size = 0

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        os.close(handle)
        self._temporary = Path(name)
        # Encoded images do not compress further, and their values never repeat.
        self._writer = pq.ParquetWriter(
            name, self._schema, compression="none", use_dictionary=False, write_statistics=["image_hash"]
        )
        return self

    def add(self, image: Encoded) -> None:
        """Take one image, which must not have been added before."""
        self._pending.append(image)
        self._size += len(image.bytes)
        if self._size >= ROW_GROUP_BYTES or len(self._pending) >= ROW_GROUP_IMAGES:
            self._flush()

    def finish(self) -> None:
        """Put the complete file in its place."""
        self._flush()
        self._writer.close()
        with open(self._temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(self._temporary, 0o644)
        os.replace(self._temporary, self.path)

    def _flush(self) -> None:
        if self._pending:
            rows = [asdict(image) for image in self._pending]
            self._writer.write_table(pa.Table.from_pylist(rows, schema=self._schema))
        self._pending, self._size = [], 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        self._temporary.unlink(missing_ok=True)


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
