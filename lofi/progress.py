"""Progress of long work: a bar with rate and remaining time on a terminal, a plain line now and then elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 15.0


def say(line: str) -> None:
    """One line for the log, above a bar where there is one."""
    tqdm.write(line, file=sys.stderr)


class Progress:
    """Counts `total` units of work, 0 where nobody knows how many; use as a context manager."""

    def __init__(self, title: str, total: int, unit: str = "sample") -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done = 0
        self._start = self._spoken = time.monotonic()
        self._bar = tqdm(total=total or None, desc=title, unit=unit) if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif error is None:
            self._say()

    def advance(self, n: int) -> None:
        """`n` more units are done."""
        self._done += n
        if self._bar is not None:
            self._bar.update(n)
        elif time.monotonic() - self._spoken >= SECONDS_BETWEEN_LINES:
            self._say()

    def reach(self, done: int) -> None:
        """`done` units are done in all."""
        self.advance(done - self._done)

    def _say(self) -> None:
        self._spoken = time.monotonic()
        rate = self._done / max(self._spoken - self._start, 1e-9)
        left = f", {(self._total - self._done) / rate:.0f} s left" if rate and self._done < self._total else ""
        of = f" of {self._total}" if self._total else ""
        line = f"{self._title}: {self._done}{of} {self._unit}s, {rate:.0f}/s{left}"
        print(line, file=sys.stderr, flush=True)
