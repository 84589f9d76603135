"""Where a file or a folder is made before it takes its name: `.NAME.xxxxxxxx`, a folder beside it.

Whoever makes something keeps a lock in that folder for as long as the process lives. So who makes the same thing next
can tell what a killed process left behind from what another process is making at this moment, and removes it.
"""

import fcntl
import glob
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

LOCK = ".lock"


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """A new folder on the same disk as `path`, gone after the block; a rename out of it publishes what was made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    clear(path.parent, glob.escape(path.name))
    folder, lock = _begin(path)
    try:
        yield folder
    except OSError as error:
        if error.errno and error.filename is None:  # neither Arrow nor Python says which file it could not write
            error.filename = str(path)
        raise
    finally:
        lock.close()  # first: a file that is open cannot be removed from a network's disk
        shutil.rmtree(folder, ignore_errors=True)


def clear(folder: Path, names: str = "*") -> None:
    """Remove what killed processes left of making things of these names in a folder."""
    for lock in folder.glob(f".{names}.*/{LOCK}"):
        _remove_abandoned(lock)


def _begin(path: Path) -> tuple[Path, BinaryIO]:
    while True:
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        lock = (folder / LOCK).open("wb")
        if not _hold(lock, fcntl.LOCK_EX) or (folder / LOCK).exists():
            return folder, lock
        lock.close()  # taken for abandoned in the moment before it was locked


def _remove_abandoned(lock: Path) -> None:
    try:
        with lock.open("rb+") as file:
            if _hold(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
                shutil.rmtree(lock.parent, ignore_errors=True)
    except OSError:  # another has just removed it
        pass


def _hold(file: BinaryIO, how: int) -> bool:
    """Whether the file could be locked: not while another process lives that did, nor on a disk without locks."""
    try:
        fcntl.flock(file, how)
    except OSError:
        return False
    return True
