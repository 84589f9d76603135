"""Made images in every encoding that has given trouble."""

import io
from typing import Any

from PIL import Image


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(colour: str) -> bytes:
    """A PNG of one colour."""
    return encoded(Image.new("RGB", (6, 4), colour))


def palette() -> bytes:
    """A PNG with a palette, one of whose colours is transparent."""
    image = Image.new("P", (5, 3))
    image.putpalette([200, 10, 10, 10, 200, 10])
    return encoded(image, transparency=b"\x00\xff")


def turned() -> bytes:
    """A JPEG whose EXIF asks for a turn by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    return encoded(Image.new("RGB", (30, 20), "blue"), "JPEG", exif=exif)


# One after the other, as rows 0 to 9 of every made dataset.
PICTURES: tuple[bytes | None, ...] = (
    plain("red"),
    palette(),
    encoded(Image.new("RGBA", (4, 4), (0, 90, 0, 128))),
    encoded(Image.new("I;16", (4, 3), 40_000)),
    encoded(Image.new("CMYK", (8, 8), (90, 0, 0, 0)), "JPEG"),
    turned(),
    None,
    b"not an image",
    encoded(Image.new("RGB", (64, 64), "green"), "JPEG")[:-400],
    plain("red"),
)
# What is said of the rows whose image cannot be shown.
ERRORS = {
    6: "the row has no image",
    7: "UnidentifiedImageError: cannot identify image file",
    8: "OSError: Truncated File Read",
}
