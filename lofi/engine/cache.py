"""The cell cache: finished parts and finished cells under the hash of all that made them.

Snakemake deletes the outputs of a job before it runs and after it fails; what lies here survives both.
Nothing is ever read under another key, and a file that is short or broken counts as absent. Several sweeps may share a
cache: two that make one cell at the same time write the same answers, and either may finish it.
"""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from lofi.scratch import clear, scratch
from lofi.store import read_if_valid, write_table

Join = Callable[[Sequence[pa.Table]], pa.Table]  # of the parts of a table


@dataclass(frozen=True)
class Span:
    """Images start to stop of a shard, and the number of samples they carry."""

    start: int
    stop: int
    n_samples: int


class CellCache:
    """The cached parts of one kind of table of one cell (`samples`, or what a reference adds to it)."""

    def __init__(self, root: Path, key: str, kind: str = "samples") -> None:
        self.key, self.kind = key, kind
        self.folder = root / key

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

    def finish(self, spans: Sequence[Span], rows: Sequence[int], metadata: Mapping[str, Any], *, join: Join) -> None:
        """Join all parts into the whole table, then drop them. A missing part is an error, never a gap, unless
        another process has finished the same cell meanwhile.
        """
        parts = []
        for span, n_rows in zip(spans, rows, strict=True):
            part = read_if_valid(self.part(span), self.key, n_rows)
            if part is None and self.is_finished(sum(rows)):
                return
            if part is None:
                raise RuntimeError(f"part {self.part(span)} vanished or broke while its cell was being finished")
            parts.append(part)
        table = join(parts)
        write_table(table, self.whole, {**metadata, "key": self.key, "rows": table.num_rows})
        for span in spans:
            self.part(span).unlink(missing_ok=True)

    def publish(self, path: Path) -> None:
        """Put the finished table at `path`: a hard link, else a copy; whole or not at all.

        A file that another sweep has published out of a shared cache is copied, because links have one date, and a new
        one would make that sweep's tables look older than its cells.
        """
        clear(self.folder)  # nobody makes the parts of a finished table again, who would see what was left of them
        with scratch(path) as folder:
            staged = folder / path.name
            if self._has_link_elsewhere(path) or not _link(self.whole, staged):
                shutil.copyfile(self.whole, staged)
            os.utime(staged)  # newer than its inputs, as the workflow expects of an output
            path.unlink(missing_ok=True)  # renaming one hard link of a file over another does nothing
            os.replace(staged, path)

    def _has_link_elsewhere(self, path: Path) -> bool:
        own = path.exists() and path.samefile(self.whole)
        return self.whole.stat().st_nlink > (2 if own else 1)


def _link(source: Path, target: Path) -> bool:
    """Make a hard link; whether the file system could."""
    try:
        os.link(source, target)
    except OSError:
        return False
    return True
