"""Photos opened ahead of the engine: decoded and preprocessed in worker processes, in order, a few at a time.

Workers share one anonymous block of memory with this process, cut into slots: in one they find the encoded bytes of a
few photos, and leave the tensors. Only what does not fit goes through a pipe.
"""

import multiprocessing
import os
import signal
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from mmap import mmap
from multiprocessing import connection

import numpy as np
import torch

from lofi.data.images import one_line, open_image
from lofi.engine.batch import OpenPhoto
from lofi.engine.photo import Photo
from lofi.errors import UserError
from lofi.models.pictures import Opening, Picture

CHUNK = 8  # photos that go to a worker together: a part of 64 gives eight workers one chunk each
AHEAD = 2  # chunks for each worker: one that it works on, one that is ready
SLOT = 32 * 2**20  # bytes; those that are never written to take no memory
MOST = 8  # workers that `auto` starts
ALIGNMENT = 64


@dataclass(frozen=True)
class Place:
    """Where in the block an array lies."""

    start: int
    dtype: str
    shape: tuple[int, ...]


Laid = Place | np.ndarray  # an array in the block, or itself where there was no room
Sent = dict[str, Laid] | str  # the tensors of one picture, or why there are none


@dataclass
class Room:
    """What is left of a slot."""

    start: int
    stop: int

    def lay(self, block: mmap, array: np.ndarray) -> Laid:
        """Lay an array into the block, if there is room."""
        if self.start + array.nbytes > self.stop:
            return array
        place = Place(self.start, array.dtype.name, array.shape)
        np.ndarray(array.shape, array.dtype, buffer=block, offset=self.start)[...] = array
        self.start += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
        return place


def workers_for(asked: int | str, device: torch.device) -> int:
    """How many worker processes open images. `auto`: none where the model itself works on the CPU."""
    if isinstance(asked, int):
        return asked
    return 0 if device.type == "cpu" else max(0, min(MOST, len(os.sched_getaffinity(0)) - 1))


class Loader:
    """Opens photos, in this process or ahead of it in others."""

    def __init__(self, opening: Opening, workers: int = 0, exif: str = "ignored") -> None:
        self._opening, self._workers, self._exif = opening, workers, exif
        self._pool: tuple[ProcessPoolExecutor, mmap] | None = None
        self._free: deque[int] = deque(range(AHEAD * workers))

    def open(self, photos: Iterable[Photo]) -> Iterator[OpenPhoto]:
        """The photos in their order; of the iterable, at most `CHUNK * AHEAD` for each worker are taken ahead."""
        if self._workers:
            yield from self._ahead(iter(photos))
            return
        for photo in photos:
            yield OpenPhoto(photo, *_opened(self._opening, self._exif, photo.content, photo.docs[0].prompt))

    def _ahead(self, photos: Iterator[Photo]) -> Iterator[OpenPhoto]:
        pool, block = self._start()
        if len(self._free) < AHEAD * self._workers:
            raise RuntimeError("this loader is still opening other photos; finish or close those first")
        pending: deque[tuple[list[Photo], int, Future[list[Sent]]]] = deque()
        try:
            while True:
                while self._free and (chunk := list(islice(photos, CHUNK))):
                    slot = self._free.popleft()
                    pending.append((chunk, slot, pool.submit(_work, *_laid(block, slot, chunk))))
                if not pending:
                    return
                chunk, slot, future = pending[0]
                found = [_received(block, sent) for sent in future.result()]
                pending.popleft()
                self._free.append(slot)
                yield from (OpenPhoto(photo, *each) for photo, each in zip(chunk, found, strict=True))
        except BrokenProcessPool:
            raise _killed() from None
        finally:  # also where whoever reads stops early: a slot is free only when nobody writes to it
            for _, slot, future in pending:
                if not future.cancel():
                    future.exception()
                self._free.append(slot)

    def _start(self) -> tuple[ProcessPoolExecutor, mmap]:
        """The workers and the block, which they share because they are forked; so is the processor."""
        if self._pool is None:
            block = mmap(-1, SLOT * AHEAD * self._workers)
            pool = ProcessPoolExecutor(
                self._workers,
                mp_context=multiprocessing.get_context("fork"),
                initializer=_begin,
                initargs=(self._opening, self._exif, block),
            )
            weakref.finalize(self, pool.shutdown, wait=False, cancel_futures=True)
            self._pool = pool, block
        return self._pool


def _killed() -> UserError:
    return UserError(
        "a worker process that opens images was killed, perhaps because memory ran out; what was finished is kept, so "
        "run the same command again, with fewer `workers` in the model's settings (0: no such process)"
    )


def _opened(opening: Opening, exif: str, content: bytes | None, text: str) -> tuple[Picture | None, str]:
    """What the processor makes of an image, or why it makes nothing of it."""
    if not content:
        return None, "the image is missing from the dataset"
    try:
        image = open_image(content, exif=exif)
    except Exception as error:  # a decoder may raise anything on a broken file
        return None, f"image does not decode: {type(error).__name__}: {one_line(error)}"
    try:
        return opening.open(image, text), ""
    except ValueError as error:  # of a picture that a processor has no size for, such as a very long one
        return None, f"the processor refuses the image: {one_line(error)}"


class _Worker:
    """What a worker process has been given."""

    opening: Opening
    exif: str
    block: mmap


def _begin(opening: Opening, exif: str, block: mmap) -> None:
    """Make this process a worker, which ends with the process that it works for."""
    _Worker.opening, _Worker.exif, _Worker.block = opening, exif, block
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads did not survive the fork
    torch.set_num_threads(1)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # here, so that every thread begins with it
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
        threading.Thread(target=_end_when_told, args=(parent.pid,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)  # a killed parent closes nothing, and a worker would wait for its next photo for ever


def _end_when_told(parent: int | None) -> None:
    """SLURM sends SIGTERM to every process of a job, but whoever finishes a part still needs its photos opened."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(1)


def _laid(block: mmap, slot: int, chunk: Sequence[Photo]) -> tuple[list[tuple[Laid, str]], Room]:
    """Encoded images laid into a slot, each with a question about it, and the room behind them."""
    room = Room(SLOT * slot, SLOT * (slot + 1))
    return [
        (room.lay(block, np.frombuffer(photo.content or b"", np.uint8)), photo.docs[0].prompt) for photo in chunk
    ], room


def _work(asked: Sequence[tuple[Laid, str]], room: Room) -> list[Sent]:
    """Open images in a worker and leave their tensors in the slot."""
    sent: list[Sent] = []
    for content, text in asked:
        encoded = _found(_Worker.block, content).tobytes()
        picture, error = _opened(_Worker.opening, _Worker.exif, encoded, text)
        inputs = picture.inputs if picture else {}
        sent.append(error or {name: room.lay(_Worker.block, tensor.numpy()) for name, tensor in inputs.items()})
    return sent


def _received(block: mmap, sent: Sent) -> tuple[Picture | None, str]:
    """What a worker has sent, out of its slot."""
    if isinstance(sent, str):
        return None, sent
    return Picture({name: torch.from_numpy(_found(block, laid).copy()) for name, laid in sent.items()}), ""


def _found(block: mmap, laid: Laid) -> np.ndarray:
    """The array that was laid down."""
    if isinstance(laid, np.ndarray):
        return laid
    return np.ndarray(laid.shape, laid.dtype, buffer=block, offset=laid.start)
