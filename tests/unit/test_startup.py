"""What a process does before it computes, in processes of their own."""

import os
import subprocess
import sys

FREEZES = """
import gc
from lofi.startup import large_imports
with large_imports("yaml"):
    import yaml
    assert not gc.isenabled()
frozen = gc.get_freeze_count()
assert gc.isenabled() and frozen > 1000
with large_imports("yaml"):
    import tomllib
    assert gc.isenabled()
assert gc.get_freeze_count() == frozen
"""

FAULTS = """
import resource
from lofi.startup import keep_freed_memory
keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
bytearray(2**26)
before = faults()
for _ in range(10):
    bytearray(2**26)
print(faults() - before)
"""


def said(program: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=kept | environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_a_library_is_frozen_when_it_is_first_imported() -> None:
    assert said(FREEZES) == ""


def test_memory_that_was_given_back_is_used_again() -> None:
    pages = 10 * 2**26 // os.sysconf("SC_PAGE_SIZE")
    assert int(said(FAULTS)) < pages / 10


def test_the_user_may_say_otherwise() -> None:
    huge = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}  # whole pages of 4 KB, whatever the machine prefers
    assert int(said(FAULTS, MALLOC_MMAP_THRESHOLD_="1000000", **huge)) > 1000
