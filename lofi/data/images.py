"""Images: encoded bytes in and out of one Parquet file, and the one way they are decoded."""

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps

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
EXIF = ("ignored", "applied")  # whether a photograph is turned as its file asks
NO_IMAGE = digest(b"")
# What a reader must load to get at one image.
ROW_GROUP_BYTES = 16 * 2**20
ROW_GROUP_IMAGES = 256
WHITE_16 = 65535
MAX_PIXELS = 89_478_485  # where Pillow begins to suspect a bomb: a quarter of a gigabyte of RGB


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


def open_image(content: bytes, *, exif: str = "ignored") -> Image.Image:
    """The picture in RGB: the first frame, its transparency left out.

    LLaVA's own loader does not turn a photograph as EXIF asks; `exif="applied"` does. What has 16 bits is scaled to
    8, where Pillow alone would make all but the darkest pixels white.
    """
    return _in_rgb(Image.open(io.BytesIO(content)), exif)


def _in_rgb(image: Image.Image, exif: str) -> Image.Image:
    if exif not in EXIF:
        raise UserError(f"exif is {exif!r}; choose from {', '.join(EXIF)}")
    turned: Image.Image = ImageOps.exif_transpose(image) if exif == "applied" else image
    if turned.mode.startswith("I") or turned.mode == "F":
        return _scaled(turned).convert("RGB")
    if turned.mode == "RGB":
        turned.load()  # a conversion would copy it
        return turned
    if turned.mode == "P" and "transparency" in turned.info:
        turned = turned.convert("RGBA")  # the same colours; a direct conversion warns
    return turned.convert("RGB")


def _scaled(image: Image.Image) -> Image.Image:
    """Grey of 16 bits (h, w) as the nearest of 8 bits; what is wider has no white that all readers agree on."""
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > WHITE_16:
        raise ValueError(f"pixels of mode {image.mode} have no common white; store 8 or 16 bits")
    return Image.fromarray(((values.astype(np.uint32) * 255 + WHITE_16 // 2) // WHITE_16).astype(np.uint8))


def inspect(content: bytes, *, exif: str = "ignored") -> Encoded:
    """What an image is, found by decoding all of it as a model's will be; or why that failed.

    Width and height are of the picture as it is shown.
    """
    image_hash = digest(content)
    if not content:
        return Encoded(image_hash, content, error="the row has no image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pixels, which are counted here, and about odd metadata
            image = Image.open(io.BytesIO(content))
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are more than {MAX_PIXELS:,}; make it smaller")
            shown = _in_rgb(image, exif)
    except UserError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever they stumble over
        return Encoded(image_hash, content, error=f"{type(error).__name__}: {one_line(error)}")
    return Encoded(image_hash, content, shown.width, shown.height, image.format, image.mode)


def one_line(error: Exception) -> str:
    """What a decoder says, the same in every run."""
    # Pillow names the buffer by its address, which would differ from run to run.
    return "cannot identify image file" if "cannot identify" in str(error) else " ".join(str(error).split())


@contextmanager
def image_writer(path: Path, metadata: Mapping[str, Any]) -> Iterator["ImageWriter"]:
    """Write images one by one in bounded memory. The file appears when the block ends without an error."""
    # Encoded images do not compress further, and their values never repeat.
    plain: dict[str, Any] = {"compression": "none", "use_dictionary": False, "write_statistics": ["image_hash"]}
    schema = IMAGES.with_metadata(stamp(metadata))
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, write_page_checksum=True, **plain) as file:
        writer = ImageWriter(file)
        yield writer
        writer.flush()


class ImageWriter:
    """Collects images into row groups that are cheap to read one image from."""

    def __init__(self, file: pq.ParquetWriter) -> None:
        self.n_images = 0
        self._file = file
        self._pending: list[Encoded] = []
        self._size = 0

    def add(self, image: Encoded) -> None:
        """Take one image, which must not have been added before."""
        self.n_images += 1
        self._pending.append(image)
        self._size += len(image.bytes)
        if self._size >= ROW_GROUP_BYTES or len(self._pending) >= ROW_GROUP_IMAGES:
            self.flush()

    def flush(self) -> None:
        """Write what is pending."""
        if self._pending:
            self._file.write_table(pa.Table.from_pylist([asdict(image) for image in self._pending], schema=IMAGES))
        self._pending, self._size = [], 0
