"""The images of a prepared dataset, read by row groups: at most one group is in memory at a time."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lofi.errors import UserError


class StoredImages:
    """One file of encoded images, open for reading."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = pq.ParquetFile(path, page_checksum_verification=True)
        self._group: tuple[int, pa.ChunkedArray] | None = None

    def __len__(self) -> int:
        return len(self._places)

    @property
    def hashes(self) -> tuple[str, ...]:
        """All images, in the order in which they are stored."""
        return tuple(self._places)

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """Of every image its row group and its row in that."""
        groups = (self._file.read_row_group(at, columns=["image_hash"]) for at in range(self._file.num_row_groups))
        hashes = (group.column("image_hash").to_pylist() for group in groups)
        return {key: (at, row) for at, group in enumerate(hashes) for row, key in enumerate(group)}

    def read(self, hashes: Iterable[str]) -> dict[str, bytes]:
        """The encoded bytes of the images asked for; empty for an image that its row lacked."""
        wanted = list(dict.fromkeys(hashes))
        if missing := sorted(key for key in wanted if key not in self._places):
            raise UserError(
                f"{self.path} lacks {len(missing)} of {len(wanted)} images, {missing[0]} first; prepare it again"
            )
        return {key: self._contents(group)[row].as_py() for key in wanted for group, row in [self._places[key]]}

    def _contents(self, group: int) -> pa.ChunkedArray:
        """The bytes of a row group; the last one stays, since images are asked for in their order."""
        if self._group is None or self._group[0] != group:
            self._group = None  # before the next is read, so that there are never two
            try:
                self._group = group, self._file.read_row_group(group, columns=["bytes"]).column("bytes")
            except (OSError, pa.ArrowException) as error:
                raise UserError(f"{self.path} cannot be read ({error}); delete it and prepare it again") from error
        return self._group[1]
