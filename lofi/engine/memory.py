"""Running out of memory: fewer images go on together, and what does not fit alone is said, never lost."""

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TypeVar

import torch

from lofi.engine.batch import OpenPhoto
from lofi.engine.photo import Photo
from lofi.engine.session import Session
from lofi.progress import say

P = TypeVar("P")
T = TypeVar("T")


@dataclass(frozen=True)
class OutOfMemory:
    """What came of work that did not fit, and what the device said."""

    reason: str


def attempt(work: Callable[[], T]) -> T | OutOfMemory:
    """The result of `work`; where it does not fit, all that it held is free again."""
    try:
        return work()
    except torch.OutOfMemoryError as error:
        reason = ". ".join(str(error).split(". ")[:2])  # the rest counts bytes of other processes
    # only here, behind the block, has the traceback let go of the tensors of the failed pass
    gc.collect()
    torch.cuda.empty_cache()
    return OutOfMemory(reason)


def in_batches(
    session: Session,
    photos: Iterable[Photo],
    cells: Sequence[P],
    work: Callable[[Session, Sequence[OpenPhoto], Sequence[P]], T],
    lost: Callable[[Session, Photo, P, str], T],
) -> Iterator[T]:
    """`work` on all photos, opened, for all cells, at most `session.constants.batch_size` photos at a time.

    A batch that does not fit is halved, and its half is the most for the rest of the session. A photo that does not
    fit by itself is worked on for half of the cells at a time; `lost` is told of those for which it never fits.
    """
    opened, waiting = session.load(photos), list[OpenPhoto]()
    while True:
        waiting += islice(opened, max(0, session.constants.batch_size - len(waiting)))
        chunk = waiting[: session.constants.batch_size]
        if not chunk:
            return
        found = attempt(partial(work, session, chunk, cells))
        if not isinstance(found, OutOfMemory):
            yield found
        elif len(chunk) == 1:
            single = replace(session, constants=replace(session.constants, batch_size=1))
            yield from _alone(single, chunk[0], cells, work, lost)
        else:
            half = (len(chunk) + 1) // 2
            say(f"out of memory with {len(chunk)} images together, going on with {half}: {found.reason}")
            session.constants = replace(session.constants, batch_size=half)
            continue
        del waiting[: len(chunk)]


def _alone(
    session: Session,
    photo: OpenPhoto,
    cells: Sequence[P],
    work: Callable[[Session, Sequence[OpenPhoto], Sequence[P]], T],
    lost: Callable[[Session, Photo, P, str], T],
) -> Iterator[T]:
    found = attempt(partial(work, session, [photo], cells))
    if not isinstance(found, OutOfMemory):
        yield found
    elif len(cells) == 1:
        yield lost(session, photo.photo, cells[0], f"one image by itself is out of memory: {found.reason}")
    else:
        middle = len(cells) // 2
        yield from _alone(session, photo, cells[:middle], work, lost)
        yield from _alone(session, photo, cells[middle:], work, lost)
