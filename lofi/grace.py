"""SIGTERM: what SLURM sends some seconds before it takes a node away, and what ends a command in order anywhere else.

A command ends at once, removes what it had half made, and says that the same command goes on. A stage that keeps its
work in parts holds the end off until the part in flight is written.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_TERMINATED = 128 + signal.SIGTERM  # as a shell says it of a process that the signal killed
SECONDS = 28.0  # SLURM sends SIGKILL after 30 unless a site says otherwise, and what is half made has to go before that


class Terminated(BaseException):
    """The command was asked to end. No `except Exception` on the way may swallow it."""


class _Asking:
    """What the signal said, and whether the end has to wait for it."""

    asked = False
    held = False
    told = False  # whoever works has been told by an exception


_asking = _Asking()


@contextmanager
def ending_in_order() -> Iterator[None]:
    """While open, SIGTERM raises `Terminated`: at once, or where a part is in flight when that is written, or late."""
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, _ask), signal.SIGALRM: signal.signal(signal.SIGALRM, _end)}
    try:
        yield
    except Exception as error:  # DuckDB makes errors of its own of what its callbacks raise
        if _asking.told:
            raise Terminated from error
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        _asking.asked = _asking.told = False  # whatever this process does next was not asked to end


@contextmanager
def finishing() -> Iterator[None]:
    """Around a part that a process which is asked to end should still write."""
    _asking.held = True
    try:
        yield
    finally:
        _asking.held = False
    if _asking.asked:
        _tell()


def _ask(number: int, frame: FrameType | None) -> None:
    if _asking.asked:  # SLURM sends it twice, and the first has to be able to clean up
        return
    _asking.asked = True
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    if not _asking.held:
        _tell()


def _end(number: int, frame: FrameType | None) -> None:
    _tell()


def _tell() -> None:
    _asking.told = True
    raise Terminated
