"""The cell cache: finished parts and finished cells under the hash of all that made them.

Snakemake deletes the outputs of a job before it runs and after it fails; what lies here survives both.
Nothing is ever read under another key, and a file that is short or broken counts as absent.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from lofi.store import concat, read_if_valid, write_table


@dataclass(frozen=True)
class Span:
    """Images start to stop of a shard, and the number of samples they carry."""

    start: int
    stop: int
    n_samples: int


class CellCache:
    """The cached parts of one kind of table of one cell (`samples`, or what a reference adds to it)."""

    def __init__(self, results: Path, key: str, kind: str = "samples") -> None:
        self.key, self.kind = key, kind
        self.folder = results / "cache" / key

    @property
    def whole(self) -> Path:
        """The file of the finished table."""
        return self.folder / f"{self.kind}.parquet"

    def part(self, span: Span) -> Path:
        """The file of one part."""
        return self.folder / f"{self.kind}-{span.start:07d}-{span.stop:07d}.parquet"

    def is_finished(self, n_rows: int) -> bool:
        """Whether the whole table lies here, readable and complete."""
        return self.whole.exists() and read_if_valid(self.whole, self.key, n_rows) is not None

    def has_part(self, span: Span, n_rows: int) -> bool:
        """Whether a part lies here, readable and complete."""
        return read_if_valid(self.part(span), self.key, n_rows) is not None

    def write_part(self, span: Span, table: pa.Table) -> None:
        """Store one part."""
        write_table(table, self.part(span), {"key": self.key})

    def finish(self, spans: Sequence[Span], rows: Sequence[int], metadata: Mapping[str, Any], *, sort: bool) -> None:
        """Join all parts into the whole table, then drop them. A missing part is an error, never a gap."""
        parts = []
        for span, n_rows in zip(spans, rows, strict=True):
            part = read_if_valid(self.part(span), self.key, n_rows)
            if part is None:
                raise RuntimeError(f"part {self.part(span)} vanished or broke while its cell was being finished")
            parts.append(part)
        table = concat(parts) if sort else pa.concat_tables(parts)
        write_table(table, self.whole, {**metadata, "key": self.key, "rows": table.num_rows})
        for span in spans:
            self.part(span).unlink(missing_ok=True)

    def publish(self, path: Path) -> None:
        """Put the finished table at `path`: a hard link, else a copy; whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=".publish-"))
        try:
            staged = folder / path.name
            try:
                os.link(self.whole, staged)
            except OSError:
                shutil.copyfile(self.whole, staged)
            os.utime(staged)  # newer than its inputs, as the workflow expects of an output
            path.unlink(missing_ok=True)  # renaming one hard link of a file over another does nothing
            os.replace(staged, path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
