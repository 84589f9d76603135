"""The images that a row shows: none, one or several, as bytes, as paths, or as a list of either."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Shown:
    """The encoded images of one row in their order; `error` says why a model cannot be shown them."""

    contents: tuple[bytes, ...]  # never empty: empty bytes stand for an image that is not there
    error: str | None = None


def shown(cells: Iterable[Any], locate: Callable[[str], Path]) -> Shown:
    """The images in a row's cells; `locate` finds the file of a path, or raises ValueError."""
    found = [_content(image, locate) for cell in cells for image in _images(cell)]
    if not found:
        return Shown((b"",))
    errors = [error for _, error in found if error]
    if len(found) > 1:  # to leave images out would be another question
        errors += [f"the question shows {len(found)} images, and lofi asks about one; it counts as an error"]
    return Shown(tuple(content for content, _ in found), errors[0] if errors else None)


def _images(cell: Any) -> list[Any]:
    return [each for each in (cell if isinstance(cell, list) else [cell]) if each is not None and each != ""]


def _content(cell: Any, locate: Callable[[str], Path]) -> tuple[bytes, str]:
    """The bytes of an image, and what is wrong where there are none."""
    path = cell
    if isinstance(cell, Mapping):
        if cell.get("bytes"):
            return bytes(cell["bytes"]), ""
        path = cell.get("path")
    if not path:
        return b"", ""
    try:
        return locate(str(path)).read_bytes(), ""
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return b"", f"its image {path} cannot be read: {reason}"
