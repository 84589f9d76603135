"""What a process does before it computes: its imports, and how it holds memory."""

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# <malloc.h>; sizes in bytes
M_TRIM_THRESHOLD, GIVE_BACK_FROM = -1, 2**31 - 1
M_TOP_PAD, GROW_BY = -2, 2**26
M_MMAP_THRESHOLD, MAP_BY_ITSELF_FROM = -3, 2**30


@contextmanager
def large_imports(library: str) -> Iterator[None]:
    """Import a library and all it takes inside this block, whose objects then belong to the process for good.

    torch and transformers make some hundred thousand objects, none of which ever goes. Python's collector of cycles
    would walk through all of them again and again while they come, and once more at the process's end: a third of the
    time to start a job. A process that has the library already is left as it is.
    """
    if library in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def keep_freed_memory() -> None:
    """Have the C library keep what was given back for what is asked for next. Only glibc can; others are left alone.

    It would return every large block to the system, which then hands the same pages over again for the next tensor, one
    fault for each 4 KB: a twentieth of the time of an evaluation on a CPU. MALLOC_… in the environment goes first.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt(M_TRIM_THRESHOLD, GIVE_BACK_FROM)
    mallopt(M_TOP_PAD, GROW_BY)
    mallopt(M_MMAP_THRESHOLD, MAP_BY_ITSELF_FROM)
